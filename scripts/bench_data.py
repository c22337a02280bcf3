"""Preparing LLaVA's instruction mix and starting a training from it: stock XTuner against this package.

    python scripts/bench_data.py --work runs/bench_data --write docs/results

Data is the like of the 665K mix (scripts/make_mix_like.py). XTuner's loader runs with 2 processes instead of its fixed
32, which 24 GB of memory are not enough for. A time is that of the work without the imports; memory is the largest sum
of what all processes hold, shared memory counted once, imports included. Repeats of both are interleaved, the figure is
the median. `docs/performance.md` is written from what --write left (`--tables` writes it again from there).
`--padding` counts the padding of micro-batches on 20,000 records, and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.data import padding
from bench.data.memory import Run, measured
from bench_images import measure as measure_images
from docs.marked_tables import write_tables
from make_mix_like import make_mix, train_tokenizer

RECORDS, SMALLEST = 665_298, 20_000
PACKAGES = ("xtuner", "datasets", "transformers", "tokenizers", "torch", "pyarrow", "pillow", "numpy")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def prepare_both(work: Path, sizes: dict[int, int], tokenizer: Path) -> list[dict[str, Any]]:
    """Preparation of each size, with as many repeats of each way."""
    rows = []
    for size, repeats in sizes.items():
        mix = str(work / str(size) / "mix.json")
        stock: list[Run] = []
        ours: list[Run] = []
        for _ in range(repeats):
            if size != RECORDS:
                stock.append(measured("stock-prepare", mix, str(tokenizer)))
            shutil.rmtree(work / "cache", ignore_errors=True)  # every image is decoded each time
            ours.append(measured("our-prepare", mix, str(tokenizer), str(work / str(size) / "store")))
        row: dict[str, Any] = {"records": size, "repeats": repeats}
        for name, runs in (("stock", stock), ("ours", ours)):
            if runs:
                row[name] = {
                    "seconds": median(run.said["seconds"] for run in runs),
                    "peak_gb": max(run.peak_gb for run in runs),
                    "kept": runs[0].said["records"],
                }
        if stock:
            row["stock"]["start_seconds"] = median(
                run.said["seconds"] + run.said["sampler"] + run.said["batch"] for run in stock
            )
            row["ratio"] = row["stock"]["seconds"] / row["ours"]["seconds"]
        starts = [measured("our-start", str(work / str(size) / "store"), str(tokenizer)) for _ in range(3)]
        row["ours"]["start_seconds"] = median(
            run.said["seconds"] + run.said["sampler"] + run.said["batch"] for run in starts
        )
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def four_ranks(work: Path, size: int, tokenizer: Path) -> dict[str, Any]:
    """Four processes of one launch: seconds to the first batch of the slowest, memory of all together."""
    runs = {
        "stock": measured("stock-ranks", str(work / str(size) / "mix.json"), str(tokenizer)),
        "ours": measured("our-ranks", str(work / str(size) / "store"), str(tokenizer)),
    }
    found: dict[str, Any] = {
        name: {"seconds": run.said["seconds"], "peak_gb": run.peak_gb} for name, run in runs.items()
    }
    return {"records": size, **found, "ratio": runs["ours"].peak_gb / runs["stock"].peak_gb}


def preparation_table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| records | | prepared in | records/s | peak memory | training starts in |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["preparation"]:
        for name, title in (("stock", "XTuner 0.2.0"), ("ours", "moslora data prepare")):
            if name in row:
                cell = row[name]
                rate = row["records"] / cell["seconds"]
                lines.append(
                    f"| {row['records']:,} | {title} | {cell['seconds']:.1f} s | {rate:,.0f} | "
                    f"{cell['peak_gb']:.2f} GB | {cell['start_seconds']:.1f} s |"
                )
        if "ratio" in row:
            lines.append(f"| | ratio | | **{row['ratio']:.1f}** | | |")
    return "\n".join(lines)


def ranks_table(found: dict[str, Any]) -> str:
    """Markdown."""
    ranks = found["ranks"]
    lines = [f"| four processes, {ranks['records']:,} records | first batch after | memory of all |", "|---|---|---|"]
    for name, title in (("stock", "XTuner 0.2.0"), ("ours", "from a token store")):
        lines.append(f"| {title} | {ranks[name]['seconds']:.1f} s | {ranks[name]['peak_gb']:.2f} GB |")
    return "\n".join([*lines, f"| ratio | | **{ranks['ratio']:.2f}** |"])


def images_table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| JPEG | XTuner 0.2.0, images/s | this package, images/s | ratio | difference | `check` looks at |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["images"]:
        lines.append(
            f"| {row['width']}x{row['height']} | {row['stock_images_s']:.1f} | {row['ours_images_s']:.1f} | "
            f"**{row['ratio']:.2f}** | {row['largest_difference']:g} | {row['looks_s']} images/s |"
        )
    return "\n".join(lines)


def machine_table(found: dict[str, Any]) -> str:
    """One line."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found["versions"].items()))
    return (
        f"{found['date']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}; {versions}."
    )


def main() -> None:
    """Measure, or only write the tables again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the data; 6 GB for all sizes")
    parser.add_argument("--repeats", type=int, default=3, help="of the smallest size; the others run once")
    parser.add_argument("--sizes", type=int, nargs="+", default=[SMALLEST, 100_000, RECORDS])
    parser.add_argument("--write", type=Path, help="folder for data.json; docs/performance.md gets its tables")
    parser.add_argument("--tables", type=Path, help="only write the tables, from this data.json")
    parser.add_argument("--padding", action="store_true", help="only count padding (padding.json)")
    args = parser.parse_args()
    if args.padding:
        if args.work is None:
            parser.error("--padding needs --work")
        counted = padding.count(small_store(args.work))
        print(padding.table(counted))
        if args.write is not None:
            (args.write / "padding.json").write_text(json.dumps(counted, indent=2) + "\n")
            write_tables(PAGE, {"padding": lambda: padding.table(counted)})
        return
    if args.tables is not None:
        found = json.loads(args.tables.read_text())
    elif args.work is None:
        parser.error("--work or --tables")
    else:
        found = measure(args.work, args.sizes, args.repeats)
    tables = {
        "machine": lambda: machine_table(found),
        "preparation": lambda: preparation_table(found),
        "ranks": lambda: ranks_table(found),
        "images": lambda: images_table(found),
    }
    print("\n\n".join(make() for make in tables.values()))
    if args.write is not None:
        (args.write / "data.json").write_text(json.dumps(found, indent=2) + "\n")
    if args.write is not None or args.tables is not None:
        write_tables(PAGE, tables)


def small_store(work: Path) -> Any:
    """The store of the smallest mix, made if it is not there."""
    from transformers import CLIPImageProcessor

    from moslora_xtuner.data.dataset import TokenStore
    from moslora_xtuner.data.prepare import prepare

    folder = work / str(SMALLEST)
    make_mix(folder, SMALLEST)
    if not (tokenizer := work / "tokenizer").exists():
        train_tokenizer(tokenizer, folder / "mix.json")
    if not (store := folder / "store").exists():
        prepare(folder / "mix.json", folder / "images", tokenizer, store)
    return TokenStore(str(store), str(folder / "images"), CLIPImageProcessor())


def measure(work: Path, sizes: list[int], repeats: int) -> dict[str, Any]:
    """All of it."""
    import psutil

    work.mkdir(parents=True, exist_ok=True)
    os.environ["MOSLORA_CACHE"] = str(work / "cache")
    os.environ["OMP_NUM_THREADS"] = "1"
    for size in sizes:
        make_mix(work / str(size), size)
    tokenizer = work / "tokenizer"
    if not tokenizer.exists():
        train_tokenizer(tokenizer, work / str(max(sizes)) / "mix.json")
    images = measure_images(30)
    preparation = prepare_both(work, {size: repeats if size == min(sizes) else 1 for size in sizes}, tokenizer)
    compared = max(size for size in sizes if size != RECORDS)
    return {
        "date": date.today().isoformat(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "images": images,
        "preparation": preparation,
        "ranks": four_ranks(work, compared, tokenizer),
    }


if __name__ == "__main__":
    main()
