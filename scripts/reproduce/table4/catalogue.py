"""The rows of the paper's Tables 1, 3 and 4 and the lines of figure 4: recipes, names, what is printed; runs of them.

Source: arXiv 2406.11909. Of Tables 1 and 3 the means over the eight sets are kept here; Table 4's cells are
`moslora_xtuner.eval.report.paper_table4`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from moslora_xtuner.eval.report.paper_table4 import TABLE4, CommonsenseRow

PREFIX = "commonsense_"
"""Of the recipes."""
WHOLE = 100.0
NAMES = {
    "lora": "LoRA",
    "lokr": "LoKr",
    "loha": "LoHa",
    "flora": "FLoRA",
    "adalora": "AdaLoRA",
    "dora": "DoRA r16",
    "dora_r32": "DoRA r32",
    "moslora": "MoSLoRA (Kaiming)",
    "ts_mixing": "TS-Mixing",
    "lora_r32": "LoRA r32",
    "ts_mixing_r32": "TS-Mixing r32",
    "moslora_zero": "MoSLoRA (zero)",
    "moslora_identity": "MoSLoRA (identity)",
    "moslora_normal": "MoSLoRA (normal)",
    "moslora_orthogonal": "MoSLoRA (orthogonal)",
    "frozen_mixer": "LoRA with a frozen mixer",
}
"""Of each method, by its recipe; Table 4's as it prints them."""
ROWS_OF_TABLE4: Mapping[str, CommonsenseRow] = {
    recipe: row for recipe, name in NAMES.items() for row in TABLE4 if row.name == name
}
NOT_CONVERGED = "does not converge"


@dataclass(frozen=True)
class Table:
    """One table: its methods in order with the mean that is printed of each, and which are held against which.

    `printed` is a text where no mean is; `further` are controls that the paper lacks, trained where they are named.
    """

    title: str
    printed: Mapping[str, float | str]
    pairs: tuple[tuple[str, str], ...]
    baseline: str
    further: tuple[str, ...] = ()


TABLES: Mapping[str, Table] = {
    "1": Table(
        "Table 1: LoRA and two-subspaces mixing",
        {"lora": 82.8, "ts_mixing": 83.8, "lora_r32": 81.0, "ts_mixing_r32": 83.0},
        (("ts_mixing", "lora"), ("ts_mixing_r32", "lora_r32")),
        "lora",
    ),
    "3": Table(
        "Table 3: how the mixer starts",
        {
            "moslora_zero": NOT_CONVERGED,
            "moslora_identity": 82.6,
            "moslora_normal": 80.7,
            "moslora_orthogonal": 84.4,
            "moslora": 85.6,
        },
        tuple((f"moslora_{start}", "moslora") for start in ("identity", "normal", "orthogonal")),
        "moslora",
    ),
    "4": Table(
        "Table 4: methods",
        {recipe: row.mean for recipe, row in ROWS_OF_TABLE4.items()},
        tuple((recipe, "lora") for recipe in (*ROWS_OF_TABLE4, "frozen_mixer") if recipe != "lora"),
        "lora",
        ("frozen_mixer",),
    ),
}
FIGURE = "4"
LINES = ("lora", "moslora")
"""Of figure 4."""
PARTS = (12.5, 25.0, 50.0, 75.0, WHOLE)
"""Per cent of the training questions, as figure 4 has them; all of them are the runs of Table 4."""

RECORDS = 170_300
"""Training questions behind the split: the authors' 31,929 steps are three epochs of 16 at a time."""

_KEY = re.compile(r"(?P<recipe>\w+?)(?:-part-(?P<part>[\d.]+))?-seed-(?P<seed>\d+)")


@dataclass(frozen=True)
class Trained:
    """A training: a method, how many per cent of the questions it saw, and the seed of all that is drawn."""

    recipe: str
    part: float
    seed: int

    @property
    def key(self) -> str:
        """Of its folder and its steps."""
        return f"{self.recipe}{self.of_part('-part-{:g}')}-seed-{self.seed}"

    @property
    def name(self) -> str:
        """In reports, where runs that differ in the seed alone are one method."""
        return f"{NAMES[self.recipe]}{self.of_part(', {:g} %')}, seed {self.seed}"

    @property
    def method(self) -> str:
        """The name without the seed."""
        return f"{NAMES[self.recipe]}{self.of_part(', {:g} %')}"

    def of_part(self, form: str) -> str:
        """The part in words, nothing where it is the whole."""
        return "" if self.part == WHOLE else form.format(self.part)


def by_key(key: str) -> Trained | None:
    """The training of a key; None where it is none."""
    found = _KEY.fullmatch(key)
    if found is None or found["recipe"] not in NAMES:
        return None
    return Trained(found["recipe"], float(found["part"] or WHOLE), int(found["seed"]))


def by_name(name: str) -> Trained | None:
    """The training that a report calls so; None where it is none."""
    found = re.fullmatch(r"(?P<method>.+?)(?:, (?P<part>[\d.]+) %)?, seed (?P<seed>\d+)", name)
    recipes = {method: recipe for recipe, method in NAMES.items()}
    if found is None or found["method"] not in recipes:
        return None
    return Trained(recipes[found["method"]], float(found["part"] or WHOLE), int(found["seed"]))
