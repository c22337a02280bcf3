"""Then: the mark before an option, a letter or a set's label and number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from moslora_xtuner.data.commonsense.sets import SAYS
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.worlds.cases import COLOURS, NAMES, PLACES, STUFFS, THINGS

from .texts import VALUES, Text, asked_again, filled, sentences


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
    return asked_again(rng, by.listed(words), [(word, by.mark(at)) for at, word in enumerate(words)], by.lead)


def letters(rng: Random) -> Text:
    """The same by letters alone."""
    return marked(rng, LETTERS)


def hop(rng: Random, markings: Sequence[Marking] = LETTERS) -> Text:
    """Facts, their second words marked, and asked for the marks: two steps at once."""
    count = rng.randint(2, 4)
    keys = rng.sample(rng.choice((NAMES, THINGS)), count)
    values = rng.sample(rng.choice((PLACES, STUFFS, COLOURS)), count)
    link, by = filled(rng), rng.choice(markings)
    order = rng.sample(range(count), count)
    listed = by.listed([values[of] for of in order])
    return asked_again(
        rng, sentences(keys, link, values) + listed, [(keys[of], by.mark(at)) for at, of in enumerate(order)], by.lead
    )


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
    pieces = [(sentences(keys, link, values), False)]
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
