"""Write a tuned model for others: merged as a stock Hugging Face LLaVA or language model, or with a LoRA beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.tokens.chat_templates import get_template
from ..errors import ExportError, UsageError
from ..llm.families import read_config
from ..llm.load import load_tokenizer
from ..output import atomic_folder
from ..progress import quiet
from ..training.artifacts import kept_text
from .blocks import Written
from .card import write_card
from .causal_lm import write_causal_lm
from .form import ADAPTER, BASE_LLAVA, CAUSAL_LM, LLAVA, LORA, XTUNER, ExportForm
from .llava import write_llava
from .lora import write_lora
from .parts import ADAPTER_CONFIG, LANGUAGE_MODEL, Parts, find_parts
from .processor import opening
from .xtuner_form import write_xtuner

FORMATS = {"hf": LLAVA, "lora": LORA, "xtuner": XTUNER}
"""What `--format` takes, and what kind of export it makes; of a language model alone `hf` makes CAUSAL_LM."""
BASES = ("dequantised", "original")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Tell = Callable[[str], None]


def export(
    run: Path,
    out: Path,
    *,
    format: str = "hf",
    name: str | None = None,
    dtype: str | None = None,
    base: str = "dequantised",
    tower_lora: bool = False,
    scores: str = "",
    tell: Tell = lambda line: None,
) -> Path:
    """Export a finished run, or a base model's folder, and return `out`.

    What stands on the disk is read again and compared with what was trained, on records that the training kept;
    where it differs, nothing stands there.

    Args:
        run: a run's folder, its `adapters/`, an export of the form `lora`, a folder with `base.json`, or one PEFT
            adapter's directory.
        out: the folder to make; it appears whole or not at all.
        format: `hf`, the adapters merged into a LlavaForConditionalGeneration with its processor, or into a
            LlamaForCausalLM where no picture was trained on; `lora`, the same
            without the language model's adapter (`base/`) and that as a plain LoRA of it (`adapter/`); or `xtuner`,
            adapters and projector as XTuner's own tools read them, without the bases.
        name: what the model is called in reports; the run's folder name by default.
        dtype: `fp32`, `bf16` or `fp16`; that of the training by default.
        base: into what a run in 4 or 8 bits is merged: `dequantised`, the weights that its layers computed with, or
            `original`, those that they were made from, on which nothing was trained.
        tower_lora: with `lora`, leave the visual encoder's adapter apart, too; not every engine applies it.
        scores: a table in Markdown, for the model card.
        tell: gets the last line: what was merged into what, and the measured gap.

    Raises:
        ExportError: the run is unfinished, a base is not the one that was trained on, or what was written does not
            equal what was trained.
        UsageError: no such format, number type or base, or one that does not go with the others.
        OutputError: `out` holds something else, or cannot be written.
    """
    run, out = Path(run), Path(out)
    for value, known in ((format, tuple(FORMATS)), (base, BASES), (dtype, (None, *DTYPES))):
        if value not in known:
            raise UsageError(f"{value!r} is none of {', '.join(str(word) for word in known if word)}")
    if tower_lora and format != "lora":
        raise UsageError("--tower-lora leaves an adapter apart, --format hf puts all into the weights: use lora")
    if (run / ADAPTER_CONFIG).is_file():
        return _fold(run, out, format)
    parts = find_parts(run)
    if parts.text_only and (format == "xtuner" or tower_lora):
        raise UsageError(
            "this is a language model alone, without visual encoder and projector: its adapter is read by XTuner and "
            "PEFT as `--format lora` writes it"
        )
    called = name or run.resolve().name
    rank, written = None, None
    with quiet(), atomic_folder(out, kind="export") as folder:  # accelerate's import of DeepSpeed talks
        if format == "xtuner":
            write_xtuner(folder, parts)
        elif format == "hf":
            written = _write_whole(folder, parts, _number_type(dtype), base)
        else:
            rank, written = _write_apart(folder, parts, _number_type(dtype), base, tower_lora)
        form = _form(parts, CAUSAL_LM if parts.text_only and format == "hf" else FORMATS[format], called)
        form.write(folder)
        write_card(folder, form, parts, written, run, rank=rank, tower_apart=tower_lora, scores=scores)
    if written is not None:
        tell(said(written, parts))
    return out


def _number_type(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, DTYPES[name])


def said(written: Written, parts: Parts) -> str:
    """What an export came to, in a line."""
    bits = parts.record.bits.get("llm")
    kind = str(written.dtype).removeprefix("torch.")
    into = {
        "": "the base",
        "dequantised": f"the base as its {bits}-bit layers compute it",
        "original": "the original base",
    }
    on = f"{written.prompts} of the training's records" if written.own_prompts else f"{written.prompts} made-up records"
    kept = kept_text(parts.record.validation)
    which = f"the adapter is of {kept}; " if kept else ""
    return f"{which}merged into {into[written.base]}, in {kind}; from the trained model, on {on}: {written.rounding}"


def _fold(adapter: Path, out: Path, format: str) -> Path:
    from ..adapters import fold_adapter

    if format != "lora":
        raise UsageError(f"{adapter} is an adapter alone, without its model: use --format lora")
    return fold_adapter(adapter, out)


def _write_whole(folder: Path, parts: Parts, dtype: Any, base: str, adapter: Path | None = None) -> Written:
    if parts.text_only:
        return write_causal_lm(folder, parts, dtype=dtype, base=base, adapter=adapter)
    return write_llava(folder, parts, dtype=dtype, base=base, adapter=adapter)


def _write_apart(folder: Path, parts: Parts, dtype: Any, base: str, tower: bool) -> tuple[int, Written]:
    if parts.exported:
        raise UsageError("this is an export of the form lora already: export the run that it was made of")
    if parts.llm_adapter is None:
        raise ExportError("this model's language model has no adapter: there is no LoRA to write")
    if tower and parts.visual_encoder_adapter is None:
        raise UsageError("this model's visual encoder has no adapter: leave --tower-lora out")
    beside = parts.visual_encoder_adapter if tower else None
    under = "" if parts.text_only else f"{LANGUAGE_MODEL}."
    rank = write_lora(folder / ADAPTER, parts.llm_adapter, read_config(parts.llm), beside, under)
    (folder / BASE_LLAVA).mkdir()
    if tower:
        written = write_llava(
            folder / BASE_LLAVA, parts, dtype=dtype, base=base, adapter=folder / ADAPTER, tower_adapted=True
        )
    else:
        written = _write_whole(folder / BASE_LLAVA, parts, dtype, base, folder / ADAPTER)
    _form(parts, CAUSAL_LM if parts.text_only else LLAVA, "base").write(folder / BASE_LLAVA)
    return rank, written


def _form(parts: Parts, kind: str, name: str) -> ExportForm:
    template = get_template(parts.template)
    return ExportForm(
        kind=kind,
        name=name,
        system_template=template.system,
        instruction=template.instruction,
        stop_words=tuple(template.stop_words),
        system=parts.record.system,
        bos=bool(opening(load_tokenizer(parts.llm), template)) if template.plain else True,
        pad_image_to_square=parts.pad_image_to_square,
        source=without_paths(parts.facts),
    )


def without_paths(facts: Any) -> dict[str, Any]:
    """What was trained on, without where it lay on this machine: of a folder's path the last name stays.

    And without each single validation loss, which the run's own record has.
    """
    plain = {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in facts.items()
    }
    if isinstance(validation := plain.get("validation"), dict):
        plain["validation"] = {key: value for key, value in validation.items() if key != "losses"}
    return plain
