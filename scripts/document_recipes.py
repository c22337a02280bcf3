"""Write docs/recipes.md's table and the memory in the recipes' heads from the recipes themselves.

python scripts/document_recipes.py           write it
python scripts/document_recipes.py --check   exit with 1 when the page says something else
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from docs.marked_tables import write_tables
from docs.recipe_memory import LINE, line, memory
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
CONFIGS = ROOT / "xtuner_configs"
HEAD = ("recipe", "Table 5", "adapter", "rank", "alpha", "LLM", "rate", "batch x accumulation", "GiB a GPU", "data")


def adapter(part: dict[str, Any] | None) -> str:
    """What a part's adapter is called."""
    if part is None:
        return "none: the projector alone"
    if part["type"] == "peft.LoraConfig":
        return "LoRA"
    if part["mixer"] == "learned":
        return f"MoSLoRA, {part.get('mixer_init', 'kaiming_uniform')}"
    return {"butterfly": "TS-Mixing", "identity": "LoRA"}[part["mixer"]]


def row(path: Path) -> tuple[str, ...]:
    """One recipe's cells."""
    config = Config.fromfile(path).to_dict()
    model, loader = config["model"], config["train_dataloader"]
    parts = [model.get("llm_lora"), model.get("visual_encoder_lora")]
    fields = {name: " / ".join(str(part[name]) for part in parts if part) or "-" for name in ("r", "lora_alpha")}
    llm = Path(config["llm_path"])
    kinds = dict.fromkeys(adapter(part) for part in parts)
    numbered = re.search(r"Paper, Table 5, row (\d)\.", path.read_text(encoding="utf-8"))
    needs = memory(path)
    return (
        f"`{path.name}`",
        f"row {numbered[1]}" if numbered else "-",
        " / ".join(kinds),
        fields["r"],
        fields["lora_alpha"],
        (llm.parent.name if llm.name == "llm" else llm.name)
        + (", 4 bits" if "quantization_config" in model["llm"] else ""),
        f"{config['optim_wrapper']['optimizer']['lr']:g}",
        f"{loader['batch_size']} x {config['optim_wrapper'].get('accumulative_counts', 1)}",
        f"{needs[3]:.0f} on {needs[0]}" if needs else "-",
        f"`{loader['dataset']['store']}`",
    )


def table() -> str:
    """The table of all recipes."""
    for path in CONFIGS.rglob("*.py"):  # the defaults are documented, not this machine's settings
        for name in re.findall(r"\{\{\$(\w+):", path.read_text(encoding="utf-8")):
            os.environ.pop(name, None)
    # Those of commonsense reasoning have a table of their own (document_commonsense.py).
    names = sorted(path for path in CONFIGS.glob("*.py") if not path.stem.startswith(("__init__", "commonsense_")))
    rows = [row(path) for path in names]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEAD, ("---",) * len(HEAD), *rows))


def write_heads(check: bool) -> None:
    """Put the memory into each recipe's head, or with `check` only compare.

    Raises:
        SystemExit: (check) a head says something else.
    """
    for path in sorted(CONFIGS.glob("*.py")):
        if path.stem == "__init__" or (needs := memory(path)) is None:
            continue
        before = path.read_text(encoding="utf-8")
        after = LINE.sub(lambda _, path=path, needs=needs: line(path, needs), before, count=1)
        if after.count("Memory: ") != 1:
            raise SystemExit(f"error: the head of {path} has no line 'Memory: '")
        if not check:
            path.write_text(after, encoding="utf-8")
        elif after != before:
            raise SystemExit(f"error: the head of {path} is out of date: run 'python scripts/document_recipes.py'")


def main() -> None:
    """Write or check the page and the recipes' heads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    write_tables(PAGE, {"recipes": table}, check=check)
    write_heads(check)


if __name__ == "__main__":
    main()
