"""Small worlds: one right answer each, worlds of tests apart, and the same bytes for the same seed."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from random import Random

import pytest

from moslora_xtuner.data.commonsense.sets import SETS
from moslora_xtuner.data.worlds.cases import KINDS, Case
from moslora_xtuner.data.worlds.forms import FORMS, asked, samples
from moslora_xtuner.data.worlds.writing import write_worlds
from moslora_xtuner.errors import OutputError

LABELS = {which.name: which.labels for which in SETS}
LISTED = re.compile(
    r"(?:Answer|Solution|Ending|Option)(\d): (.*?)(?= Answer\d|\n\n| Ending\d| Option\d| Answer format)"
)


def solved(case: Case) -> str:
    """The answer, found from the words alone by a reader who knows nothing of how they were made."""
    told = [fact.rstrip(".").split() for fact in case.facts]
    words = case.question.rstrip("?").split()
    if case.kind == "order":
        above = {(fact[0], fact[-1]) for fact in told}
        people = {name for pair in above for name in pair}
        first = words[-1] in ("tallest", "fastest", "oldest", "richest")
        return next(
            name
            for name in sorted(people)
            if all((name == pair[1]) != first or name not in pair for pair in above)
            and not any(name == pair[1 if first else 0] for pair in above)
        )
    if case.kind == "colour":
        thing = words[words.index("the") + 1]
        return next(fact[-1] for fact in told if fact[1] == thing)
    if case.kind == "place":
        where = {fact[-5] if fact[0] == "the" else fact[0]: fact[-1] for fact in told}
        at = where[words[-1]]
        while at in where:
            at = where[at]
        return at
    if case.kind == "arithmetic":
        had, change = int(told[0][2]), int(told[1][2])
        return str(had + change if told[1][1] in ("gets", "finds") else had - change)
    rules = [re.fullmatch(r"(?:when|if) the (\w+) \w+, the (\w+) (\w+)\.", fact) for fact in case.facts]
    known = [rule.groups() for rule in rules if rule]
    if len(known) == len(case.facts):  # how do you make the animal act?
        return next(f"drop the {thing}" for thing, animal, _ in known if animal == words[5])
    thing = told[-1][1]
    return next(f"the {animal} {deed}" for cause, animal, deed in known if cause == thing)


@pytest.mark.parametrize(("kind", "side"), itertools.product(KINDS, ("tuned", "base")))
def test_the_right_answer_follows_and_no_wrong_one_is_it(kind: str, side: str) -> None:
    rng = Random(0)
    for _ in range(300):
        case = KINDS[kind](rng, side)  # type: ignore[arg-type]
        assert solved(case) == case.right
        assert case.right not in case.wrong
        assert len(set(case.wrong)) == len(case.wrong) >= 3


@pytest.mark.parametrize("name", FORMS)
def test_the_label_names_the_right_option(name: str) -> None:
    rng = Random(1)
    seen = set()
    for _ in range(200):
        case = KINDS[FORMS[name].kinds[0]](rng, "tuned")
        made = asked(name, case, rng)
        seen.add(made.answer)
        assert made.answer in LABELS[name]
        assert made.output == f"the correct answer is {made.answer}"
        offered = made.instruction.rsplit("Answer format: ", 1)[1].split("/")
        assert made.answer in offered
        if name == "boolq":
            said = case.statement.format(case.right).rstrip(".")
            assert (made.answer == "true") == (f"is it true that {said}?" in made.instruction)
        else:
            options = dict(LISTED.findall(made.instruction))
            assert len(options) == len(offered)
            assert options[made.answer[-1]].rstrip(".") == case.right
    assert seen == set(offered)  # no label is never right


def test_no_world_of_a_test_is_learnt() -> None:
    """Whatever order its facts are told in: a text of training with the same set of sentences would be found."""

    def worlds(test: bool, count: int) -> set[frozenset[str]]:
        found = set()
        for sample in samples(count, 0, test=test):
            body = sample.instruction.split("\n\n")[0]
            found.add(frozenset(re.findall(r"[^.:?]+\.", body)))
        return found

    assert not worlds(True, 1600) & worlds(False, 8000)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_worlds(tmp_path / name, records=40, test_questions=5)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file())
    assert len(files) == 11
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    records = json.loads((tmp_path / "a" / "train.json").read_text())
    assert len(records) == 40
    with pytest.raises(OutputError, match="records was 40, is 41"):
        write_worlds(tmp_path / "a", records=41, test_questions=5)


def test_the_base_learns_other_words() -> None:
    rng = Random(0)
    cases = [KINDS[kind](rng, "base") for kind in KINDS for _ in range(100)]
    texts = " ".join(f"{case.story} {case.question}" for case in cases)
    tuned = " ".join(sample.instruction for sample in samples(500, 0, test=False))
    assert not {"taller", "faster", "gets", "when"} & set(texts.split())
    assert not {"older", "richer", "finds", "if"} & set(tuned.split())
