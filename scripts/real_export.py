"""Export at real sizes on this machine: peak memory, time and the measured gap, with random weights.

    python scripts/real_export.py --work runs/real_size                  # LLaMA-3 8B in bf16, InternLM2 7B from NF4
    python scripts/real_export.py --work runs/real_size --write          # and docs/results/real_export.json
    python scripts/real_export.py --work runs/real_size --recipes llava_llama3_moslora

The checkpoints are those of scripts/real_size.py. A run's folder is made of them with random adapters of the recipe's
ranks; `moslora export` writes it in a process of its own, whose peak is measured. The export is deleted again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

from bench.real_size.checkpoints import write_all  # noqa: E402
from bench.real_size.cut import cut  # noqa: E402
from docs.marked_tables import write_tables  # noqa: E402
from gpu.machine import machine  # noqa: E402

RESULT = SCRIPTS.parent / "docs" / "results" / "real_export.json"
PAGE = SCRIPTS.parent / "docs" / "export.md"
RECIPES = {"llava_llama3_moslora": "llama3", "llava_internlm2_qmoslora": "internlm2"}


def make_run(work: Path, recipe: str, family: str, layers: int | None) -> Path:
    """The folder that a training of this recipe would leave, its adapters random."""
    from mmengine.config import Config
    from peft import get_peft_model
    from safetensors.torch import save_file
    from transformers import CLIPVisionModel

    from moslora_xtuner.adapters import MosLoraConfig
    from moslora_xtuner.llm.load import classes
    from moslora_xtuner.llm.weights import content_of
    from moslora_xtuner.recipes.catalogue import resolve_config
    from moslora_xtuner.training.artifacts import TrainingRecord
    from moslora_xtuner.training.plan.checkpoints import llm_config, visual_config

    run = work / "exports" / f"run-{recipe}"
    if run.exists():
        shutil.rmtree(run)
    config = Config.fromfile(resolve_config(recipe), import_custom_modules=False).model
    llm = work / "models" / family
    paths = {"llm": llm if layers is None else cut(llm, layers), "visual_encoder": work / "models" / "clip"}
    config.llm.pretrained_model_name_or_path = str(paths["llm"])
    text, vision = llm_config(config.llm), visual_config(str(paths["visual_encoder"]))
    with torch.device("meta"):
        models = {"llm": classes(text.model_type)[1](text), "visual_encoder": CLIPVisionModel(vision)}
    for name, model in models.items():
        fields = {key: value for key, value in config[f"{name}_lora"].items() if key != "type"}
        settings = MosLoraConfig(**fields)
        with torch.device("meta"):
            tuned = get_peft_model(model, settings)
        weights = {}
        generator = torch.Generator().manual_seed(1)
        for key, value in tuned.state_dict().items():
            if "lora_" in key:
                scale = 0.3 / value.shape[-1] ** 0.5
                weights[key.replace(".default", "")] = torch.randn(value.shape, generator=generator) * scale
        folder = run / "adapters" / name
        settings.save_pretrained(str(folder))
        save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    (run / "adapters" / "projector").mkdir()
    shutil.copy(work / "models" / f"projector_{family}" / "model.safetensors", run / "adapters" / "projector")
    quantisation = dict(config.llm.get("quantization_config") or {})
    quantisation.pop("type", None)
    TrainingRecord(
        llm=str(paths["llm"]),
        visual_encoder=str(paths["visual_encoder"]),
        template="internlm2_chat" if family == "internlm2" else "llama3_chat",
        pad_image_to_square=True,
        visual_select_layer=-2,
        bits={"llm": 4 if quantisation else None},
        quantisation={"llm": quantisation} if quantisation else {},
        dtype=dict.fromkeys(("llm", "visual_encoder", "projector"), "bfloat16"),
        base={name: content_of(path) for name, path in paths.items()},
    ).write(run / "adapters")
    return run


def measure(work: Path, recipe: str, form: str, layers: int | None) -> dict[str, Any]:
    """Export once; what it took."""
    family = RECIPES[recipe]
    run, out = make_run(work, recipe, family, layers), work / "exports" / f"{recipe}-{form}"
    words = [sys.executable, "-m", "moslora_xtuner", "export", str(run), "-o", str(out), "--format", form]
    begun = time.monotonic()
    made = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    seconds = time.monotonic() - begun
    if made.returncode:
        raise SystemExit(made.stderr[-2000:])
    files = list(out.rglob("*.safetensors"))
    row = {
        "recipe": recipe,
        "format": form,
        "layers": layers or 32,
        "bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "largest_file": max(file.stat().st_size for file in files),
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "seconds": round(seconds, 1),
        "said": re.sub(r"^export:.*\n", "", made.stdout.strip().splitlines()[0]),
        "date": date.today().isoformat(),
        "machine": machine(),
    }
    shutil.rmtree(out)
    shutil.rmtree(run)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| run | written | largest file | peak memory | time | from what was trained | measured |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        gib = {name: row[name] / 2**30 for name in ("bytes", "largest_file", "peak_bytes")}
        gap = row["said"].rpartition(": ")[2]
        lines.append(
            f"| `{row['recipe']}`, {row['format']}, {row.get('layers', 32)} layers "
            f"| {gib['bytes']:.1f} GiB in {row['files']} files "
            f"| {gib['largest_file']:.1f} GiB | {gib['peak_bytes']:.1f} GiB | {row['seconds'] / 60:.0f} min | {gap} "
            f"| {row['date']}, {row['machine']['cores']} cores |"
        )
    return "\n".join(lines)


def main() -> None:
    """Each recipe in a process of its own, so that one's peak is not the other's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/real_size"), metavar="DIR")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--format", choices=("hf", "lora"), default="hf")
    parser.add_argument("--layers", type=int, metavar="N", help="the first ones alone; all when not given")
    parser.add_argument("--write", action="store_true", help="into docs/results/real_export.json")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.absolute()
    if args.one:
        print(json.dumps(measure(work, args.recipes[0], args.format, args.layers)))
        return
    write_all(work / "models", sorted({RECIPES[recipe] for recipe in args.recipes}))
    for recipe in args.recipes:
        words = [sys.executable, __file__, "--work", str(work), "--recipes", recipe, "--format", args.format, "--one"]
        words += [] if args.layers is None else ["--layers", str(args.layers)]
        found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
        print(f"{recipe}: {found['peak_bytes'] / 2**30:.2f} GiB at most, {found['seconds']:.0f} s; {found['said']}")
        if args.write:
            rows = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
            same = (found["recipe"], found["format"])
            rows = [row for row in rows if (row["recipe"], row["format"]) != same]
            rows = sorted([*rows, found], key=lambda row: row["recipe"], reverse=True)
            RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            write_tables(PAGE, {"sizes": lambda rows=rows: table(rows)})


if __name__ == "__main__":
    main()
