"""What is asked: a few facts of a made-up world, a question about them, what is right and what is wrong.

Two sides of each kind: `tuned` words for what adapters learn, `base` words for what the base model has learnt, so that
an adapter finds something to build on and something to change.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Side = Literal["tuned", "base"]

NAMES = (
    "Ann", "Bob", "Cara", "Dan", "Eve", "Finn", "Gus", "Hal", "Ivy", "Jan", "Kim", "Leo", "Mia", "Ned", "Ola", "Pia",
    "Rob", "Sue", "Tom", "Uma",
)  # fmt: skip
THINGS = (
    "apple", "ball", "bell", "book", "box", "coin", "cup", "drum", "fork", "hat", "jug", "key", "lamp", "map", "pen",
    "ring", "rope", "shoe", "spoon", "toy",
)  # fmt: skip
COLOURS = ("black", "blue", "brown", "gold", "green", "grey", "pink", "purple", "red", "white")
STUFFS = ("clay", "glass", "iron", "paper", "plastic", "silver", "stone", "straw", "wax", "wood")
PLACES = ("barn", "cellar", "garden", "hall", "harbour", "kitchen", "library", "market", "park", "school")
HOLDERS = ("bag", "basket", "bucket", "case", "chest", "crate", "drawer", "jar", "pocket", "sack")
ANIMALS = ("bird", "cat", "cow", "dog", "duck", "fox", "goat", "hen", "horse", "mouse")
DOINGS = ("dances", "hides", "jumps", "rests", "runs", "shouts", "sings", "sleeps", "turns", "waits")
ORDERS: Mapping[Side, Sequence[tuple[str, str, str]]] = {
    "tuned": (("taller", "tallest", "shortest"), ("faster", "fastest", "slowest")),
    "base": (("older", "oldest", "youngest"), ("richer", "richest", "poorest")),
}


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        kind: order, colour, place, arithmetic or cause.
        facts: sentences, in the order in which they are told.
        question: asks for one thing.
        right: the answer.
        wrong: other answers of its kind, three at least where there are so many; those of the world first.
        statement: the question's sense as a sentence, `{}` where the answer goes.
    """

    kind: str
    facts: tuple[str, ...]
    question: str
    right: str
    wrong: tuple[str, ...]
    statement: str

    @property
    def story(self) -> str:
        """The facts as one text."""
        return " ".join(self.facts)

    @property
    def world(self) -> int:
        """A number of the world that does not depend on the order of telling or on what is asked of it."""
        return zlib.crc32(f"{self.kind} {sorted(self.facts)}".encode())


def _shuffled(rng: Random, items: Sequence[str]) -> tuple[str, ...]:
    return tuple(rng.sample(items, len(items)))


def order(rng: Random, side: Side) -> Case:
    """Three people in a row, told by two neighbourly comparisons."""
    more, most, least = rng.choice(ORDERS[side])
    first, second, third = people = rng.sample(NAMES, 3)
    facts = _shuffled(rng, (f"{first} is {more} than {second}.", f"{second} is {more} than {third}."))
    asked, right = rng.choice(((most, first), (least, third)))
    others = _shuffled(rng, [name for name in people if name != right])
    strangers = _shuffled(rng, [name for name in NAMES if name not in people])
    return Case("order", facts, f"who is the {asked}?", right, (*others, strangers[0]), f"{{}} is the {asked}.")


def colour(rng: Random, side: Side) -> Case:
    """Four things, each of one colour (for the base: made of one stuff)."""
    things = rng.sample(THINGS, 4)
    values = rng.sample(COLOURS if side == "tuned" else STUFFS, 4)
    facts = [f"the {thing} is {value}." for thing, value in zip(things, values, strict=True)]
    at = rng.randrange(4)
    asked = f"what colour is the {things[at]}?" if side == "tuned" else f"what is the {things[at]} made of?"
    wrong = [value for value in values if value != values[at]]
    return Case("colour", _shuffled(rng, facts), asked, values[at], _shuffled(rng, wrong), f"the {things[at]} is {{}}.")


def place(rng: Random, side: Side) -> Case:
    """Things in holders in places (for the base: people in places, one step less)."""
    places = rng.sample(PLACES, 4)
    if side == "base":
        people = rng.sample(NAMES, 4)
        facts = [f"{name} is in the {where}." for name, where in zip(people, places, strict=True)]
        what, right = people[0], places[0]
        wrong = places[1:]
    else:
        things, holders = rng.sample(THINGS, 2), rng.sample(HOLDERS, 2)
        facts = [f"the {thing} is in the {holder}." for thing, holder in zip(things, holders, strict=True)]
        facts += [f"the {holder} is in the {where}." for holder, where in zip(holders, places[:2], strict=True)]
        what, right, wrong = f"the {things[0]}", places[0], [places[1], *places[2:]]
    return Case(
        "place", _shuffled(rng, facts), f"in which place is {what}?", right, tuple(wrong), f"{what} is in the {{}}."
    )


def arithmetic(rng: Random, side: Side) -> Case:
    """Something is added or taken away; results from 0 to 9."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    total, part = sorted((rng.randint(1, 9), rng.randint(1, 9)), reverse=True)
    if rng.random() < 0.5:
        had, verb, result = total - part, "gets" if side == "tuned" else "finds", total
    else:
        had, verb, result = total, "loses" if side == "tuned" else "sells", total - part
    facts = (f"{name} has {had} {thing}s.", f"{name} {verb} {part}.")
    near = sorted((n for n in range(10) if n != result), key=lambda n: (abs(n - result), rng.random()))
    wrong = _shuffled(rng, [str(n) for n in near[:3]])
    asked = f"how many {thing}s has {name} now?"
    return Case("arithmetic", facts, asked, str(result), wrong, f"{name} has {{}} {thing}s now.")


def cause(rng: Random, side: Side) -> Case:
    """Rules of a world, one of which comes to pass."""
    things, animals = rng.sample(THINGS, 3), rng.sample(ANIMALS, 3)
    deeds = rng.sample(DOINGS, 3)
    happens, when = ("falls", "when") if side == "tuned" else ("breaks", "if")
    rules = [
        f"{when} the {thing} {happens}, the {animal} {deed}."
        for thing, animal, deed in zip(things, animals, deeds, strict=True)
    ]
    at = rng.randrange(3)
    if side == "base":
        facts = (*_shuffled(rng, rules), f"the {things[at]} {happens}.")
        effects = [f"the {animal} {deed}" for animal, deed in zip(animals, deeds, strict=True)]
        right, asked, statement = effects[at], "what comes of it?", "{}."
        strange = rng.choice([animal for animal in ANIMALS if animal not in animals])
        wrong = [effect for effect in effects if effect != right] + [f"the {strange} {deeds[at]}"]
    else:
        facts = _shuffled(rng, rules)
        right, asked = f"drop the {things[at]}", f"how do you make the {animals[at]} act?"
        strange = rng.choice([thing for thing in THINGS if thing not in things])
        wrong = [f"drop the {thing}" for thing in things if thing != things[at]] + [f"drop the {strange}"]
        statement = f"to make the {animals[at]} act you {{}}."
    return Case("cause", facts, asked, right, tuple(wrong), statement)


KINDS: dict[str, Callable[[Random, Side], Case]] = {
    "order": order,
    "colour": colour,
    "place": place,
    "arithmetic": arithmetic,
    "cause": cause,
}
