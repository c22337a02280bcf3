"""What was measured at the real sizes as tables of docs/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GIB = 2**30
SIZES = (
    "recipe", "layers", "trained weights", "by the paper", "by `moslora plan`", "imports, s", "loading, s", "step, s",
    "adapters written, GB", "loss",
)  # fmt: skip
MEMORY = (
    "recipe", "loading, by the plan", "loading, measured", "of it in mapped files", "step, by the plan",
    "step, measured", "of it in mapped files", "ratio", "writing", "whole launch",
)  # fmt: skip


def sizes_table(found: dict[str, Any]) -> str:
    """Layers, weights and seconds."""
    return _table(SIZES, [_sizes(row, found["layers"]) for row in found["rows"]])


def memory_table(found: dict[str, Any]) -> str:
    """GiB foreseen and measured."""
    return _table(MEMORY, [_memory(row) for row in found["rows"]])


def _sizes(row: dict[str, Any], all_layers: int) -> list[str]:
    seconds = row["seconds"]
    parts = ("llm", "visual_encoder")
    return [
        f"`{row['recipe']}`" + (", 4 bits" if row["bits"] else ""),
        f"{row['layers']} of {all_layers}",
        " + ".join(f"{row['trained'][part]:,}" for part in parts),
        _same(row, "trained_by_paper", parts),
        _same(row, "trained_by_plan", parts),
        f"{seconds['imports']:.0f}",
        f"{seconds['loading']:.0f}",
        f"{seconds['step']:.0f}",
        f"{row['adapters_bytes'] / 1e9:.2f}",
        " / ".join(f"{loss:.2f}" for loss in row["losses"]),
    ]


def _same(row: dict[str, Any], name: str, parts: Sequence[str]) -> str:
    wanted = [row[name][part] for part in parts]
    return "equal" if wanted == [row["trained"][part] for part in parts] else " + ".join(f"{n:,}" for n in wanted)


def _memory(row: dict[str, Any]) -> list[str]:
    held, plan = row["memory"], row["plan"]
    loading, step = (above_imports(held, part) for part in ("loading", "step"))
    return [
        f"`{row['recipe']}`",
        f"{plan['loading'] / GIB:.1f}",
        f"{sum(loading) / GIB:.1f}",
        f"{loading[1] / GIB:.1f}",
        f"{plan['peak'] / GIB:.1f}",
        f"{sum(step) / GIB:.1f}",
        f"{step[1] / GIB:.1f}",
        f"{sum(step) / plan['peak']:.2f}",
        f"{sum(above_imports(held, 'writing')) / GIB:.1f}",
        f"{sum(held['launch'].values()) / GIB:.1f}",
    ]


def above_imports(held: dict[str, Any], part: str) -> tuple[int, int]:
    """Own and mapped bytes of a part of the run, without what the process held before it had a model."""
    own, mapped = (held[part][kind] - held["imports"][kind] for kind in ("own", "mapped"))
    return own, mapped


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))
