"""Last: worlds of the relations that nobody tunes, first in dense rows, then as questions in the sets' forms."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from moslora_xtuner.data.commonsense.sets import SAYS
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.worlds.cases import KINDS as CASES
from moslora_xtuner.data.worlds.cases import NAMES, ORDERS, PLACES, STUFFS, THINGS, Case, arithmetic
from moslora_xtuner.data.worlds.forms import FORMS, draw

from .marks import LETTERS, MARKINGS, Marking
from .texts import SO, Text, filled, sentences


def orders(rng: Random, in_turn: bool = False) -> Text:
    """Rows of three people, each told by two comparisons and asked for both its ends."""
    pieces: list[tuple[str, bool]] = []
    for _ in range(5):
        more, most, least = rng.choice(ORDERS["base"])
        first, second, third = rng.sample(NAMES, 3)
        told = [f" {first} is {more} than {second}.", f" {second} is {more} than {third}."]
        pieces.append(("".join(told if in_turn else rng.sample(told, 2)), False))
        for asked, right in rng.sample(((most, first), (least, third)), 2):
            pieces += [(f"{filled(rng)} {asked}{filled(rng)}", False), (f" {right}", True)]
    return Text(tuple(pieces))


def orders_in_turn(rng: Random) -> Text:
    """The same told from one end to the other."""
    return orders(rng, in_turn=True)


def sums(rng: Random) -> Text:
    """What the base's people have after they find or sell something."""
    pieces: list[tuple[str, bool]] = []
    for _ in range(8):
        case = arithmetic(rng, "base")
        pieces += [(f" {case.story}{filled(rng)}", False), (f" {case.right}", True)]
    return Text(tuple(pieces))


def truths(rng: Random, plain: bool = False) -> Text:
    """Facts, then again and again one of them, or one of them with the second word of another, and whether it is so."""
    pieces: list[tuple[str, bool]] = []
    for _ in range(3):
        keys = rng.sample(rng.choice((NAMES, THINGS)), 3)
        values = rng.sample(rng.choice((PLACES, STUFFS)), 3)
        link, behind = ("", "") if plain else (filled(rng), filled(rng))
        pieces.append((sentences(keys, link, values), False))
        for _ in range(5):
            at, truth = rng.randrange(3), rng.random() < 0.5
            said = at if truth else (at + rng.randint(1, 2)) % 3
            pieces += [(f" {keys[at]}{link} {values[said]}{behind}", False), (f" {str(truth).lower()}", True)]
    return Text(tuple(pieces))


def truths_plain(rng: Random) -> Text:
    """The same with nothing between the two words, nor behind them."""
    return truths(rng, plain=True)


def question(rng: Random, markings: Sequence[Marking] = LETTERS) -> Text:
    """A world of any kind, asked for a mark, or for the answer itself."""
    case = rng.choice(list(CASES.values()))(rng, "base")
    if rng.random() < 0.3:
        return Text(((f"{case.story} {case.question}{SO}", False), (f" {case.right}", True)))
    return _with_options(rng, case, case.question, markings)


def question_marked(rng: Random) -> Text:
    """The same by any marks."""
    return question(rng, MARKINGS)


def statement(rng: Random) -> Text:
    """A world's sense as a sentence: with a blank and marked options, or asked whether it is so."""
    case = rng.choice(list(CASES.values()))(rng, "base")
    if rng.random() < 0.5:
        truth = rng.random() < 0.5
        said = case.statement.format(case.right if truth else case.wrong[0]).removesuffix(".")
        return Text(((f"{case.story} is it true that {said}?{SO}", False), (f" {str(truth).lower()}", True)))
    return _with_options(rng, case, case.statement.format("_"), MARKINGS)


def _with_options(rng: Random, case: Case, asked: str, markings: Sequence[Marking]) -> Text:
    options, by = [case.right, *case.wrong[: rng.randint(1, 3)]], rng.choice(markings)
    rng.shuffle(options)
    ending = by.ending(len(options)) if by.label and rng.random() < 0.6 else SO
    text = f"{case.story} {asked}{by.listed(options)}{ending}{by.lead}"
    return Text(((text, False), (by.mark(options.index(case.right)), True)))


def form(rng: Random) -> Text:
    """A question of the base's own relations in the form of a set."""
    sample = draw(rng.choice(list(FORMS)), rng, test=False, side="base")
    prompt = get_template("alpaca_as_asked").instruction.format(input=sample.instruction)
    label = sample.answer.rstrip("1234")
    lead, mark = (f" {label}", sample.answer.removeprefix(label)) if label != sample.answer else ("", f" {label}")
    # In pieces as a training record has them: what a token is depends on what stands before it.
    return Text(((prompt, False), (SAYS.strip() + lead, False), (mark, True)))


def said(rng: Random) -> Text:
    """The same, and the words around the mark are learnt."""
    (prompt, _), (lead, _), (mark, _) = form(rng).pieces
    return Text(((prompt, False), (lead + mark, True)))
