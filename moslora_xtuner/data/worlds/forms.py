"""How it is asked: the wording of LLM-Adapters' eight sets around a case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ..commonsense.reading import Sample
from ..commonsense.sets import SAYS
from .cases import KINDS, Case, Side

FOR_TESTS = 5
"""Every so-manieth world is for tests alone."""


@dataclass(frozen=True)
class Form:
    """The form of one set.

    Attributes:
        asks: what stands before the story.
        label: of an option, its number follows; "" where the answer is true or false.
        options: how many there are.
        between: what stands between two options.
        kinds: of cases that are asked so.
    """

    asks: str
    label: str
    options: int
    between: str
    kinds: tuple[str, ...]


_CHOOSE = "Please choose the correct answer to the question:"
FORMS: dict[str, Form] = {
    "ARC-Easy": Form(_CHOOSE, "answer", 4, " ", ("colour",)),
    "openbookqa": Form(_CHOOSE, "answer", 4, " ", ("place",)),
    "social_i_qa": Form(_CHOOSE, "answer", 3, " ", ("order",)),
    "ARC-Challenge": Form(_CHOOSE, "answer", 4, " ", ("arithmetic",)),
    "winogrande": Form(
        "Please choose the correct answer to fill in the blank to complete the given sentence:",
        "option", 2, " ", ("order", "place"),
    ),
    "piqa": Form("Please choose the correct solution to the question:", "solution", 2, "\n\n", ("cause",)),
    "boolq": Form("Please answer the following question with true or false, question:", "", 2, "",
                  ("colour", "arithmetic")),
    "hellaswag": Form(
        "Please choose the correct ending to complete the given sentence:", "ending", 4, " ", ("colour", "cause"),
    ),
}  # fmt: skip
"""By LLM-Adapters' name of the set, in the order of Table 4."""


def draw(name: str, rng: Random, *, test: bool, side: Side = "tuned") -> Sample:
    """A question in the form of a set, of a world that is for tests, or of one that is not."""
    kind = KINDS[rng.choice(FORMS[name].kinds)]
    while ((case := kind(rng, side)).world % FOR_TESTS == 0) != test:
        pass
    return asked(name, case, rng)


def asked(name: str, case: Case, rng: Random) -> Sample:
    """A case in the form of a set; the options' order is drawn."""
    form = FORMS[name]
    if not form.label:
        truth = rng.random() < 0.5
        said = case.statement.format(case.right if truth else case.wrong[0])
        text = f"{form.asks} {case.story} is it true that {said.removesuffix('.')}?\n\nAnswer format: true/false"
        return _sample(text, "true" if truth else "false")
    options = [case.right, *case.wrong[: form.options - 1]]
    rng.shuffle(options)
    body = f"{case.story} {case.question}"
    if form.label == "option":
        body = f"{case.story} {case.statement.format('_')}"
    elif form.label == "ending":
        body, sentence = f"{case.story} {case.statement.partition('{}')[0].strip()}".strip(), case.statement
        options = [f"{option}{sentence.partition('{}')[2]}" for option in options]
    labels = [f"{form.label}{number + 1}" for number in range(form.options)]
    listed = form.between.join(f"{label.capitalize()}: {option}" for label, option in zip(labels, options, strict=True))
    ends = " " if form.label == "option" else "\n\n"
    right = next(place for place, option in enumerate(options) if option.removesuffix(".") == case.right)
    return _sample(f"{form.asks} {body}\n\n{listed}{ends}Answer format: {'/'.join(labels)}", labels[right])


def _sample(instruction: str, answer: str) -> Sample:
    return Sample(instruction, f"{SAYS}{answer}", answer)


def samples(count: int, seed: int, *, test: bool, only: str | None = None) -> Iterator[Sample]:
    """`count` questions of all sets in turn, or of one; the same for the same seed."""
    names = [only] if only is not None else list(FORMS)
    rng = Random(f"{seed} {test} {only}")
    for place in range(count):
        yield draw(names[place % len(names)], rng, test=test)
