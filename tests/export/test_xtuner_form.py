"""XTuner's own layout, read as `xtuner chat` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModel, AutoModelForCausalLM, CLIPVisionModel

from moslora_xtuner.export.merge import export


def test_as_xtuner_chat_reads_it(tuned: tuple[Any, Path], tiny_base: Path, tmp_path: Path) -> None:
    model, run = tuned
    out = export(run, tmp_path / "out", format="xtuner")
    names = {path.name for path in out.iterdir()}
    assert names >= {"llm_adapter", "visual_encoder_adapter", "projector", "README.md", "moslora_export.json"}
    llm = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base / "llm"), str(out / "llm_adapter"))
    eyes = PeftModel.from_pretrained(
        CLIPVisionModel.from_pretrained(tiny_base / "visual_encoder"), str(out / "visual_encoder_adapter")
    )
    assert type(llm.peft_config["default"]) is LoraConfig
    projector = AutoModel.from_pretrained(out / "projector", trust_remote_code=True)  # as XTuner does, of its own code
    ids = torch.tensor([[1, 5, 9, 2]])
    pixels = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert (llm.eval()(input_ids=ids).logits - model.llm(input_ids=ids).logits).abs().max() < 1e-4
        seen = eyes.eval()(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        assert (projector(seen) - model._features(pixels)).abs().max() < 1e-4
    card = (out / "README.md").read_text()
    assert "xtuner chat LLM --visual-encoder VISUAL_ENCODER --llava . --prompt-template llama3_chat" in card
    assert str(tmp_path) not in card
