"""A run in the layout of XTuner's own `pth_to_hf`, for `xtuner chat` and VLMEvalKit's class LLaVA_XTuner."""

from __future__ import annotations

from pathlib import Path

from ..adapters import fold_adapter
from ..errors import ExportError
from ..projector import projector_weights
from .parts import LLM_ADAPTER, VISUAL_ENCODER_ADAPTER, Parts


def write_xtuner(folder: Path, parts: Parts) -> None:
    """Write `llm_adapter/`, `visual_encoder_adapter/` (plain LoRA, B' = B M) and `projector/`.

    The projector is XTuner's ProjectorModel with its code beside it, as XTuner writes it: its readers run that code.

    Raises:
        ExportError: this is an export already, or the projector is none of XTuner's.
    """
    from xtuner.model.modules import ProjectorConfig, ProjectorModel

    if parts.exported:
        raise ExportError("this is an export already: give the run that it was made of")
    for name, adapter in ((LLM_ADAPTER, parts.llm_adapter), (VISUAL_ENCODER_ADAPTER, parts.visual_encoder_adapter)):
        if adapter is not None:
            fold_adapter(adapter, folder / name)
    weights = projector_weights(parts.projector)
    text, vision = weights["model.0.weight"].shape
    config = ProjectorConfig(visual_hidden_size=vision, llm_hidden_size=text, depth=(len(weights) // 2))
    projector = ProjectorModel(config)
    try:
        projector.load_state_dict(weights)
    except RuntimeError as fault:
        raise ExportError(f"{parts.projector} is no projector of XTuner's ({fault})") from fault
    projector.save_pretrained(folder / "projector")


def how_to_load(template: str) -> str:
    """The card's words."""
    chat = f"xtuner chat LLM --visual-encoder VISUAL_ENCODER --llava . --prompt-template {template}"
    kit = (
        f'LLaVA_XTuner(llm_path=LLM, llava_path=".", visual_encoder_path=VISUAL_ENCODER, prompt_template="{template}")'
    )
    return (
        f"## Loading it\n\nIn XTuner, beside the two base models:\n\n```\n{chat} --image picture.png\n```\n\n"
        f"XTuner runs the projector's code that lies in `projector/`, which is its own. In VLMEvalKit: `{kit}`."
    )
