"""The model card: what the model is, what it was made from, how it is loaded; nothing of the machine it was made on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..training.artifacts import ADAPTERS, LAST, LLM, VISUAL_ENCODER, kept_text
from .blocks import Written
from .form import LORA, XTUNER, ExportForm, vllm_rank
from .parts import Parts
from .xtuner_form import how_to_load

LICENCES = {"llama": "the Llama licence of its release", "internlm2": "InternLM's licence"}


def write_card(
    folder: Path,
    form: ExportForm,
    parts: Parts,
    written: Written | None,
    run: Path,
    *,
    rank: int | None = None,
    tower_apart: bool = False,
    scores: str = "",
) -> None:
    """Write README.md, with the hub's metadata at its head, and loss.png where the run has a log.

    Args:
        folder: of the export, that is being made.
        form: of the export.
        parts: of the run.
        written: what the export came to; None where it holds no base.
        run: the run's folder, for its log and its config.
        rank: of a LoRA that stands beside the model.
        tower_apart: that it holds the visual encoder's layers, too.
        scores: a table in Markdown.
    """
    losses = read_losses(run)
    if losses:
        _draw(losses, folder / "loss.png")
    named = [parts.llm] if parts.text_only else [parts.llm, parts.visual_encoder]
    bases = [_public(base) for base in named]
    of_the_hub = [base for base in named if base in bases and "/" in base]
    text = [
        _metadata(of_the_hub, form.kind == LORA, parts.text_only),
        f"# {form.name}",
        _what(parts, written, bases),
        how_to_load(parts.template)
        if form.kind == XTUNER
        else _loading_text(rank)
        if parts.text_only
        else _loading(form, rank, tower_apart),
        _training(parts, losses),
        f"## Scores\n\n{scores}" if scores else "",
        _licence(parts),
    ]
    (folder / "README.md").write_text("\n\n".join(part for part in text if part) + "\n", encoding="utf-8")


def _public(checkpoint: str) -> str:
    """A hub id as it is; of a folder on this machine its last name."""
    path = Path(checkpoint)
    if not path.exists() and not path.is_absolute():
        return checkpoint
    return f"{path.parent.name}/{path.name}" if path.name in (LLM, VISUAL_ENCODER) else path.name


def _metadata(bases: list[str], lora: bool, text_only: bool) -> str:
    task = "text-generation" if text_only else "image-text-to-text"
    lines = ["---", f"library_name: {'peft' if lora else 'transformers'}", f"pipeline_tag: {task}"]
    lines += ["base_model:", *(f"- {base}" for base in bases)] if bases else []
    tags = ["- moslora", "- xtuner"] if text_only else ["- llava", "- moslora", "- xtuner"]
    return "\n".join([*lines, "license: other", "tags:", *tags, "---"])


def _what(parts: Parts, written: Written | None, bases: list[str]) -> str:
    if written is None:
        return f"Adapters and projector of a LLaVA of {bases[0]} and {bases[1]}: {_adapter(parts)}, by MoSLoRA-XTuner."
    kind = str(written.dtype).removeprefix("torch.")
    of = bases[0] if parts.text_only else f"A LLaVA of {bases[0]} and {bases[1]}"
    said = [f"{of}, {written.parameters:,} weights in {kind}, tuned with {_adapter(parts)} by MoSLoRA-XTuner."]
    bits = parts.record.bits.get("llm")
    if written.base == "dequantised":
        said.append(f"It was trained in {bits} bits; its base is what those layers computed with, dequantised.")
    elif written.base == "original":
        said.append(f"It was trained in {bits} bits, and merged into the original weights: that is another model.")
    records = "records of its training" if written.own_prompts else "made-up records"
    said.append(f"Read back from disk and compared on {written.prompts} {records}: {written.rounding}.")
    return " ".join(said)


def _adapter(parts: Parts) -> str:
    found = []
    for what, folder in (("language model", parts.llm_adapter), ("visual encoder", parts.visual_encoder_adapter)):
        if folder is not None:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            found.append(f"{method(config)} on the {what}")
    return " and ".join(found) or "no adapter"


def method(config: Mapping[str, Any]) -> str:
    """A PEFT config in words: what it is, its rank, its alpha."""
    kind = {
        "MOSLORA": f"MoSLoRA ({config.get('mixer', 'learned')} mixer)",
        "LORA": "DoRA" if config.get("use_dora") else "LoRA",
        "LOHA": "LoHa",
        "LOKR": "LoKr",
        "ADALORA": "AdaLoRA",
    }.get(config["peft_type"], config["peft_type"])
    rank = f"{config['init_r']} to {config['target_r']}" if config["peft_type"] == "ADALORA" else config["r"]
    return f"{kind} of rank {rank}, alpha {config.get('lora_alpha', config.get('alpha'))}"


def _loading_text(rank: int | None) -> str:
    """Of a language model alone."""
    where, tuned = (".", "") if rank is None else ("base", 'model = PeftModel.from_pretrained(model, "adapter")\n')
    imports = "" if rank is None else "from peft import PeftModel\n"
    vllm = "vllm serve ."
    if rank is not None:
        vllm = f"vllm serve base --enable-lora --max-lora-rank {vllm_rank(rank)} --lora-modules tuned=adapter"
    return (
        f"## Loading it\n\nWith transformers.\n\n```python\n{imports}"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{where}")\n'
        f'model = AutoModelForCausalLM.from_pretrained("{where}", torch_dtype="auto")\n{tuned}'
        'message = {"role": "user", "content": "Is water wet?"}\n'
        'ids = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")\n'
        "made = model.generate(ids.to(model.device), max_new_tokens=32)\n"
        "print(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))\n```\n\n"
        f"With vLLM:\n\n```\n{vllm}\n```"
    )


def _loading(form: ExportForm, rank: int | None, tower_apart: bool) -> str:
    square = (
        " Pictures are padded to a square, which transformers can do since 4.49; an older release stops at the "
        "processor: use `moslora ask` there."
        if form.pad_image_to_square
        else ""
    )
    ask = (
        'message = {"role": "user", "content": [{"type": "image", "image": "picture.png"}, '
        '{"type": "text", "text": "What is this?"}]}\n'
        "inputs = processor.apply_chat_template(\n"
        '    [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"\n'
        ")\n"
        "inputs = inputs.to(model.device, model.dtype)\n"
        "print(processor.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))"
    )
    if rank is None:
        return (
            f"## Loading it\n\nWith transformers.{square}\n\n```python\n"
            "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
            'processor = AutoProcessor.from_pretrained(".")\n'
            'model = AutoModelForImageTextToText.from_pretrained(".", torch_dtype="auto")\n'
            f"{ask}\n```\n\nWith vLLM:\n\n```\nvllm serve . --limit-mm-per-prompt '{{\"image\": 1}}'\n```"
        )
    tower = (
        "\n\nThe adapter holds layers of the visual encoder, too, which vLLM applies with "
        "`--enable-tower-connector-lora` on a GPU alone."
        if tower_apart
        else ""
    )
    return (
        f"## Loading it\n\n`base/` is a whole LLaVA (projector and visual encoder tuned), `adapter/` a plain LoRA "
        f"of it, rank {rank}. With transformers and PEFT.{square}\n\n```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        'processor = AutoProcessor.from_pretrained("base")\n'
        'model = AutoModelForImageTextToText.from_pretrained("base", torch_dtype="auto")\n'
        f'model = PeftModel.from_pretrained(model, "adapter")\n{ask}\n```\n\nWith vLLM, and then `"model": "tuned"`:'
        f"\n\n```\nvllm serve base --enable-lora --max-lora-rank {vllm_rank(rank)} --lora-modules tuned=adapter "
        f"--limit-mm-per-prompt '{{\"image\": 1}}'\n```{tower}"
    )


def _training(parts: Parts, losses: list[tuple[int, float]]) -> str:
    record = parts.record
    if not record.steps:
        return ""
    rows = {
        "steps": f"{record.steps:,}",
        "adapter of": kept_text(record.validation),
        **{f"validation, {key}": record.validation.get(key) for key in ("records", "sources")},
        "time": f"{record.seconds / 3600:.2f} h" if record.seconds else None,
        "processes": record.processes,
        "batch of a process": record.batch_size,
        "seed": record.seed,
        "chat template": record.template,
        "system prompt": record.system or "none",
        "trained weights": ", ".join(f"{part} {count:,}" for part, count in record.trainable.items()),
        **{f"data, {key}": value for key, value in record.data.items()},
        **record.settings,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items())),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value not in (None, ""))
    curve = "\n\n![Loss over steps](loss.png)" if losses else ""
    return f"## Training\n\n| | |\n|---|---|\n{table}{curve}"


def _licence(parts: Parts) -> str:
    from ..errors import ConfigError
    from ..llm.families import family

    try:
        kind = LICENCES.get(family(parts.llm), "its own licence") if not parts.exported else "its own licence"
    except ConfigError:
        kind = "its own licence"
    return (
        f"## Licence\n\nThe weights are the base models' and follow their licences: the language model {kind}"
        f"{'' if parts.text_only else ', the visual encoder its own'}. What the training data allows is said by those "
        "who made it."
    )


def read_losses(run: Path) -> list[tuple[int, float]]:
    """Step and loss of a run's logs, a later one's where two have a step; none where it has none."""
    run = run.parent if run.name == LAST and run.parent.name == ADAPTERS else run
    logs = sorted((run.parent if run.name == ADAPTERS else run).glob("*/vis_data/scalars.json"))
    found: dict[int, float] = {}
    for log in logs:
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                record: Any = json.loads(line)
                if math.isfinite(loss := float(record["loss"])):
                    found[int(record["step"])] = loss
            except (ValueError, KeyError, TypeError):
                continue
    return sorted(found.items())


def _draw(losses: list[tuple[int, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    axes.plot(*zip(*losses, strict=True), linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
