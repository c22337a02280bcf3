"""The table of a measured training step, in Markdown."""

from __future__ import annotations

from typing import Any

from .titles import TITLES


def step_table(found: dict[str, Any], rate: float | None = None) -> str:
    """What `bench_train.py` found; ratios are to the first row, `rate` is a matrix product's TFLOP/s."""
    batch = found["batch"]
    lines = [
        f"{found['shape']}, {found['layers']} layers, {batch['rows']} records, {batch['tokens']:,} tokens, "
        f"{found['dtype']}{', NF4' if found['four_bits'] else ''}, median of {found['repeats']} interleaved repeats.",
        "",
        "| | step, s | ratio | tokens/s | peak, GiB | ratio | head, GiB | saved, bytes a token and layer | "
        "operations a token and layer | TFLOP/s | loss |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = found["rows"][0]
    for row in found["rows"]:
        done = row["operations_per_step"] / row["step_s"] / 1e12
        share = f" ({100 * done / rate:.0f} % of a product's {rate:.0f})" if rate else ""
        lines.append(
            f"| {TITLES[row['variant']]} | {row['step_s']:.3f} | {row['step_s'] / first['step_s']:.2f} | "
            f"{row['tokens_per_s']:,.0f} | {row['peak_bytes'] / 2**30:.3g} | "
            f"{row['peak_bytes'] / first['peak_bytes']:.2f} | {row['head_bytes'] / 2**30:.3g} | "
            f"{row['saved_bytes_per_token_layer']:,.0f} | {row['operations_per_token_layer']:.3g} | "
            f"{done:.3g}{share} | {row['loss']:.3f} |"
        )
    return "\n".join(lines)
