"""Made-up records in the form of the commonsense sets, their store, and the variables that the recipes read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import standins

LENGTHS = (1, 4)
"""Words of a made-up name: records of different lengths, so that batches have padding."""


def make_records(path: Path, count: int, seed: int = 0) -> Path:
    """Which of two names comes first in a list of three: answered as the sets answer."""
    draw = random.Random(seed)
    colours = list(standins.COLOURS)
    made = []
    for number in range(count):
        names = [" ".join(draw.choices(colours, k=draw.randint(*LENGTHS))) for _ in range(2)]
        options = "\n\n".join(f"Solution{place}: {name}" for place, name in enumerate(names, 1))
        asked = f"Which comes first?\n\n{options}\n\nAnswer format: solution1/solution2"
        answer = f"the correct answer is solution{draw.randint(1, 2)}"
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
        made.append({"id": str(number), "conversations": turns})
    path.write_text(json.dumps(made))
    return path


def environment(root: Path, count: int = 96) -> dict[str, str]:
    """A small LLaMA, a store of records, and the variables that point at them."""
    from moslora_xtuner.data.prepare import prepare

    root.mkdir(parents=True, exist_ok=True)
    llm = standins.make_llama3(root / "llm")
    prepare(make_records(root / "train.json", count), root, llm, root / "store", template="alpaca")
    return {"COMMONSENSE_LLM": str(llm), "COMMONSENSE_STORE": str(root / "store")}
