"""What the base learns: to find what a text has told, and the letter before it, of relations that nobody tunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from moslora_xtuner.data.commonsense.sets import SAYS
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.worlds.cases import (
    ANIMALS,
    COLOURS,
    DOINGS,
    HOLDERS,
    NAMES,
    ORDERS,
    PLACES,
    STUFFS,
    THINGS,
    arithmetic,
)
from moslora_xtuner.data.worlds.cases import KINDS as CASES
from moslora_xtuner.data.worlds.forms import FORMS, draw

SO = " so it is"
"""Stands before every answer of the base's own texts."""


@dataclass(frozen=True)
class Text:
    """A text in pieces: what is only read, and what is learnt."""

    pieces: tuple[tuple[str, bool], ...]


VALUES = (NAMES, PLACES, STUFFS, THINGS, tuple("0123456789"))


WORDS = (*NAMES, *THINGS, *COLOURS, *STUFFS, *PLACES, *HOLDERS, *ANIMALS, *DOINGS, *"0123456789")


def echo(rng: Random, words: tuple[str, ...] = WORDS) -> Text:
    """Words in a row three times: to find where a word has stood, and what came after it."""
    row = rng.sample(words, rng.randint(4, 12))
    rest = "".join(f" {word}" for word in row[1:])
    again = [(f" {row[0]}", False), (rest, True)]
    return Text(((f" {row[0]}{rest}", False), *again, *again))


def echo_of_few(rng: Random) -> Text:
    """The same of twenty words: with a hundred at once it is not learnt in a thousand steps."""
    return echo(rng, THINGS)


def pairs(rng: Random) -> Text:
    """Pairs of any words, then the first of one and its second again and again."""
    count = rng.randint(2, 5)
    words = rng.sample(WORDS, 2 * count)
    facts = [(f" {words[2 * at]}", f" {words[2 * at + 1]}") for at in range(count)]
    asked = [facts[rng.randrange(count)] for _ in range(10)]
    pieces = [("".join(key + value for key, value in facts), False)]
    return Text((*pieces, *(piece for key, value in asked for piece in ((key, False), (value, True)))))


def dense(rng: Random) -> Text:
    """Lettered words, then one of them and its letter again and again, with nothing between."""
    words = rng.sample(rng.choice(VALUES), rng.randint(2, 4))
    pieces = [(" ".join(f"{letter}. {word}" for letter, word in zip("ABCD", words, strict=False)), False)]
    for _ in range(12):
        at = rng.randrange(len(words))
        pieces += [(f" {words[at]}", False), (f" {'ABCD'[at]}", True)]
    return Text(tuple(pieces))


def told(rng: Random) -> Text:
    """Facts of two words, or three, then one and the other again and again."""
    link = rng.choice(("", " is"))
    keys, values = rng.sample(rng.choice((NAMES, THINGS)), 4), rng.sample(rng.choice((PLACES, STUFFS)), 4)
    pieces = [(" ".join(f"{key}{link} {value}." for key, value in zip(keys, values, strict=True)), False)]
    for _ in range(10):
        at = rng.randrange(4)
        pieces += [(f" {keys[at]}{link}", False), (f" {values[at]}", True), (".", False)]
    return Text(tuple(pieces))


FILLING = ("is", "in", "the", "made", "of", "what", "which", "place", "so", "it", "with", "and", "has", "where")


def filled(rng: Random) -> str:
    """Up to three small words."""
    return "".join(f" {word}" for word in rng.choices(FILLING, k=rng.randint(0, 3)))


def apart(rng: Random) -> Text:
    """Facts whose two words stand apart, asked with words before and behind: the step from pairs to sentences."""
    keys = rng.sample(rng.choice((NAMES, THINGS)), 4)
    values = rng.sample(rng.choice((PLACES, STUFFS, COLOURS)), 4)
    link = filled(rng)
    told = "".join(f" {key}{link} {value}." for key, value in zip(keys, values, strict=True))
    return _asked(rng, told, [(key, f" {value}") for key, value in zip(keys, values, strict=True)])


@dataclass(frozen=True)
class Marking:
    """How options are told apart: by letters, or by a set's label and their number."""

    label: str

    def option(self, at: int, word: str) -> str:
        """With what is before it."""
        return f" {self.label.capitalize()}{at + 1}: {word}" if self.label else f" {'ABCD'[at]}. {word}"

    def listed(self, words: Sequence[str]) -> str:
        """All of them."""
        return "".join(self.option(at, word) for at, word in enumerate(words))

    @property
    def lead(self) -> str:
        """What of an answer is the same for all options."""
        return f" {self.label}" if self.label else ""

    def mark(self, at: int) -> str:
        """The rest of it."""
        return str(at + 1) if self.label else f" {'ABCD'[at]}"

    def ending(self, count: int) -> str:
        """What ends a set's prompt."""
        return f"\n\nAnswer format: {'/'.join(f'{self.label}{at + 1}' for at in range(count))}{CLOSE}"


CLOSE = get_template("alpaca_as_asked").instruction.partition("{input}")[2] + SAYS.strip()
LETTERS = (Marking(""),)
LABELS = tuple(Marking(label) for label in ("answer", "option", "solution", "ending"))
MARKINGS = (*LETTERS, *LABELS)


def marked(rng: Random, markings: Sequence[Marking] = MARKINGS) -> Text:
    """Marked words, asked likewise."""
    words = rng.sample(rng.choice(VALUES), rng.randint(2, 4))
    by = rng.choice(markings)
    return _asked(rng, by.listed(words), [(word, by.mark(at)) for at, word in enumerate(words)], by.lead)


def letters(rng: Random) -> Text:
    """The same by letters alone."""
    return marked(rng, LETTERS)


def hop(rng: Random, markings: Sequence[Marking] = LETTERS) -> Text:
    """Facts, their second words marked, and asked for the marks: two steps at once."""
    count = rng.randint(2, 4)
    keys = rng.sample(rng.choice((NAMES, THINGS)), count)
    values = rng.sample(rng.choice((PLACES, STUFFS, COLOURS)), count)
    link, by = filled(rng), rng.choice(markings)
    told = "".join(f" {key}{link} {value}." for key, value in zip(keys, values, strict=True))
    order = rng.sample(range(count), count)
    listed = by.listed([values[of] for of in order])
    return _asked(rng, told + listed, [(keys[of], by.mark(at)) for at, of in enumerate(order)], by.lead)


def hop_marked(rng: Random) -> Text:
    """The same by any marks."""
    return hop(rng, MARKINGS)


def posed(rng: Random, latest: int = 0, markings: Sequence[Marking] = LETTERS, ended: bool = False) -> Text:
    """Facts, then again and again a list of second words with a first word before its option `latest`, or earlier."""
    count = rng.randint(2, 4)
    keys = rng.sample(rng.choice((NAMES, THINGS)), count)
    values = rng.sample(rng.choice((PLACES, STUFFS, COLOURS)), count)
    link, before, by = filled(rng), filled(rng), rng.choice(markings)
    behind = by.ending(count) if ended else filled(rng)
    pieces = [("".join(f" {key}{link} {value}." for key, value in zip(keys, values, strict=True)), False)]
    for _ in range(6):
        of = rng.randrange(count)
        options = rng.sample(values, count)
        listed = [by.option(at, option) for at, option in enumerate(options)]
        listed.insert(rng.randint(0, min(latest, count)), f"{before} {keys[of]}")
        asked = "".join(listed) + behind + by.lead
        pieces += [(asked, False), (by.mark(options.index(values[of])), True), (".", False)]
    return Text(tuple(pieces))


def posed_anywhere(rng: Random) -> Text:
    """The first word at any place of the list, so that what stands before all of it is found as what stands behind."""
    return posed(rng, 4)


def posed_anywhere_marked(rng: Random) -> Text:
    """The same by any marks."""
    return posed(rng, 4, MARKINGS)


def posed_marked(rng: Random) -> Text:
    """The list behind what is asked, by any marks."""
    return posed(rng, 0, MARKINGS)


def posed_ended(rng: Random) -> Text:
    """The same with all that ends a set's prompt between the list and the answer."""
    return posed(rng, 0, LABELS, ended=True)


def _asked(rng: Random, told: str, facts: list[tuple[str, str]], lead: str = "") -> Text:
    before, behind = filled(rng), filled(rng)
    pieces = [(told, False)]
    for _ in range(8):
        key, value = rng.choice(facts)
        pieces += [(f"{before} {key}{behind}{lead}", False), (value, True), (".", False)]
    return Text(tuple(pieces))


def drill(rng: Random) -> Text:
    """Four facts, asked in turn: in words, as letters of words, and as letters."""
    if rng.random() < 0.5:
        keys, values = rng.sample(NAMES, 4), rng.sample(PLACES, 4)
        told, asks = "{} is in the {}.", "in which place is {}?"
    else:
        keys, values = [f"the {thing}" for thing in rng.sample(THINGS, 4)], rng.sample(STUFFS, 4)
        told, asks = "{} is {}.", "what is {} made of?"
    of = dict(zip(keys, values, strict=True))
    letters = dict(zip(rng.sample(values, 4), "ABCD", strict=True))
    facts = " ".join(told.format(key, of[key]) for key in rng.sample(keys, 4))
    pieces = [(facts, False)]
    for key in rng.sample(keys, 4):
        pieces += [(f" {asks.format(key)}{SO}", False), (f" {of[key]}", True)]
    pieces.append((" " + " ".join(f"{letter}. {value}" for value, letter in letters.items()), False))
    for value in rng.sample(values, 4):
        pieces += [(f" which is {value}?{SO}", False), (f" {letters[value]}", True)]
    for key in rng.sample(keys, 4):
        pieces += [(f" {asks.format(key)}{SO}", False), (f" {letters[of[key]]}", True)]
    return Text(tuple(pieces))


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
        told = "".join(f" {key}{link} {value}." for key, value in zip(keys, values, strict=True))
        pieces.append((told, False))
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
    options, by = [case.right, *case.wrong[: rng.randint(1, 3)]], rng.choice(markings)
    rng.shuffle(options)
    ending = by.ending(len(options)) if by.label and rng.random() < 0.6 else SO
    asked = f"{case.story} {case.question}{by.listed(options)}{ending}{by.lead}"
    return Text(((asked, False), (by.mark(options.index(case.right)), True)))


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
    options, by = [case.right, *case.wrong[: rng.randint(1, 3)]], rng.choice(MARKINGS)
    rng.shuffle(options)
    ending = by.ending(len(options)) if by.label and rng.random() < 0.6 else SO
    asked = f"{case.story} {case.statement.format('_')}{by.listed(options)}{ending}{by.lead}"
    return Text(((asked, False), (by.mark(options.index(case.right)), True)))


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
