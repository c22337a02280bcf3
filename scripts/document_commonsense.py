"""Write the tables of docs/commonsense.md: of methods from the recipes and from a run of commonsense_methods.py, and of
the study of seeds from its result.

python scripts/document_commonsense.py           write them
python scripts/document_commonsense.py --check   exit with 1 when the page says something else
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from commonsense.counts import CONFIGS, adapted, methods, settings
from commonsense_study.outcome import Study
from commonsense_study.outcome import table as table_of_seeds
from docs.marked_tables import write_tables
from mmengine.config import Config

from moslora_xtuner.training.plan.memory import GIB, Batch, Precision, Sharding, estimate
from moslora_xtuner.training.plan.setting import ways_of
from moslora_xtuner.training.plan.shapes import NOTHING

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "commonsense.md"
RESULTS = ROOT / "docs" / "results"
LENGTH = 256
BUCKET = 100_000_000  # xtuner_configs/deepspeed/zero2.json
PRINTED = {
    "lora": "28.3M", "moslora": "28.4M", "flora": "28.4M", "lokr": "0.9M", "loha": "28.3M", "adalora": "28.3M",
    "dora": "29.1M", "dora_r32": "57.4M",
}  # fmt: skip
"""What Table 4 prints."""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """In Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows))


def memory(name: str) -> float:
    """GiB of one GPU where the recipe's micro-batch has the longest records, by the formula of docs/plan.md."""
    config = Config.fromfile(CONFIGS / f"{name}.py", import_custom_modules=False).to_dict()
    rows = config["train_dataloader"]["batch_size"]
    needed = estimate(
        adapted(name), NOTHING, 0, Batch(rows, LENGTH, 0, 0, 0), Precision(2, 1, False),
        Sharding(2, 1, BUCKET, overlap=True), ways_of(config["model"], rows * LENGTH),
    )  # fmt: skip
    return needed.total / GIB


def recipes() -> str:
    """Every recipe: where the paper has it, its adapter, its weights, its memory."""
    rows = []
    for name in methods():
        text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
        said = settings(name)
        rate = Config.fromfile(CONFIGS / f"{name}.py", import_custom_modules=False).optim_wrapper.optimizer.lr
        said_of_paper = [line for line in text.splitlines() if line.startswith("Paper, ")]
        places = ", ".join(dict.fromkeys(re.findall(r"Table [134]", " ".join(said_of_paper))))
        rank = f"{said['init_r']} to {said['target_r']}" if "init_r" in said else str(said["r"])
        trained = adapted(name).trainable
        rows.append(
            (
                f"`{name}`",
                places or "-",
                rank,
                str(said.get("lora_alpha", said.get("alpha"))),
                f"{rate:g}",
                f"{trained:,}",
                PRINTED.get(name.removeprefix("commonsense_"), "-"),
                f"{memory(name):.1f}",
            )
        )
    head = ("recipe", "paper", "rank", "alpha", "rate", "trained weights", "as Table 4 prints", "GiB")
    return table(head, rows)


def trained() -> str:
    """What became of every method on the stand-in."""
    found: dict[str, Any] = json.loads((RESULTS / "commonsense_methods.json").read_text(encoding="utf-8"))
    rows = []
    for name, facts in found["methods"].items():
        gap = facts["stock_peft"]
        rows.append(
            (
                f"`{name}`",
                f"{facts['first_loss']:.3f} to {facts['last_loss']:.3f}",
                f"{facts['seconds']:.0f}",
                "to the bit" if facts["resumed_to_the_bit"] else "differs",
                "refused, as it should be" if gap == "refused" else f"{gap:.0e}",
                facts["export"].partition(" of their scale")[0].removeprefix("logits differ by "),
            )
        )
    setting = found["setting"]
    head = (
        "recipe", f"loss, {setting['steps']} steps", "seconds", "resumed half way", "stock PEFT beside the export",
        "export beside the training",
    )  # fmt: skip
    return table(head, rows)


def seeds() -> str:
    """What scripts/study_commonsense.py has found, computed again from each seed's scores."""
    found: dict[str, Any] = json.loads((RESULTS / "commonsense_study.json").read_text(encoding="utf-8"))
    names = ("scores", "cpu_seconds", "settings", "base_cpu_seconds")
    return table_of_seeds(Study(*(found[name] for name in names))).strip()


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    write_tables(PAGE, {"methods": recipes, "trained": trained, "seeds": seeds}, check=parser.parse_args().check)


if __name__ == "__main__":
    main()
