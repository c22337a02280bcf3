"""What the base learns first: to find what has stood in a text, and what a text has told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from moslora_xtuner.data.worlds.cases import (
    ANIMALS,
    COLOURS,
    DOINGS,
    HOLDERS,
    NAMES,
    PLACES,
    STUFFS,
    THINGS,
)

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


def sentences(keys: Sequence[str], link: str, values: Sequence[str]) -> str:
    """A fact of each key and its value."""
    return "".join(f" {key}{link} {value}." for key, value in zip(keys, values, strict=True))


def asked_again(rng: Random, told: str, facts: list[tuple[str, str]], lead: str = "") -> Text:
    """What is told, then again and again a key and its value, with words before and behind."""
    before, behind = filled(rng), filled(rng)
    pieces = [(told, False)]
    for _ in range(8):
        key, value = rng.choice(facts)
        pieces += [(f"{before} {key}{behind}{lead}", False), (value, True), (".", False)]
    return Text(tuple(pieces))


def apart(rng: Random) -> Text:
    """Facts whose two words stand apart, asked with words before and behind: the step from pairs to sentences."""
    keys = rng.sample(rng.choice((NAMES, THINGS)), 4)
    values = rng.sample(rng.choice((PLACES, STUFFS, COLOURS)), 4)
    link = filled(rng)
    return asked_again(
        rng, sentences(keys, link, values), [(key, f" {value}") for key, value in zip(keys, values, strict=True)]
    )


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
