"""What is exported computes what was tuned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import SCRIPT
from safetensors.torch import load_file, save_file

from moslora_xtuner.errors import ExportError, OutputError, UsageError
from moslora_xtuner.export.merge import export

QUESTION = (
    "<|start_header_id|>user<|end_header_id|>\n\n{}Which digit?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)


def pixels() -> torch.Tensor:
    return torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(3))


def ids_of(tokenizer: Any, image: int | None) -> torch.Tensor:
    """A question's ids, with 36 places of the token `image` before it."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    before, after = QUESTION.split("{}")
    middle = [] if image is None else [image] * 36
    return torch.tensor([[tokenizer.bos_token_id, *encode(before), *middle, *encode(after)]])


@torch.no_grad()
def tuned_logits(model: Any, tokenizer: Any, with_image: bool) -> torch.Tensor:
    ids = ids_of(tokenizer, -200 if with_image else None)
    data = {"input_ids": ids, "attention_mask": torch.ones_like(ids).bool(), "labels": ids.clamp(min=0)}
    if with_image:
        data["pixel_values"] = pixels()
    logits: torch.Tensor = model(data, mode="tensor").logits
    return logits


@pytest.fixture(scope="session")
def hf_export(tuned: tuple[Any, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tuned[1], tmp_path_factory.mktemp("export") / "hf", name="tiny")


@pytest.mark.parametrize("with_image", [True, False])
def test_hugging_face_logits_equal_the_tuned_ones(
    tuned: tuple[Any, Path], hf_export: Path, llama3_tokenizer: Any, tiny_base: Path, with_image: bool
) -> None:
    """Stock transformers, merged weights, against XTuner's model with its adapters beside the weights."""
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    model = LlavaForConditionalGeneration.from_pretrained(hf_export).eval()
    processor = LlavaProcessor.from_pretrained(hf_export)
    token = model.config.image_token_index
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == token
    ids = ids_of(llama3_tokenizer, token if with_image else None)
    inputs = {"pixel_values": pixels()} if with_image else {}
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits
    wanted = tuned_logits(tuned[0], llama3_tokenizer, with_image)
    assert wanted.abs().max() > 0.5
    assert (found[..., : wanted.shape[-1]] - wanted).abs().max() < 1e-4
    # The tuning matters: the base alone answers differently.
    with tuned[0].llm.disable_adapter(), tuned[0].visual_encoder.disable_adapter():
        assert (tuned_logits(tuned[0], llama3_tokenizer, with_image) - wanted).abs().max() > 1e-2


def test_the_added_image_token_is_never_the_most_likely(hf_export: Path, llama3_tokenizer: Any) -> None:
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(hf_export).eval()
    token = model.config.image_token_index
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(llama3_tokenizer), (64, 20), generator=generator)
    with torch.no_grad():
        logits = model.language_model(input_ids=ids).logits
    assert (logits[..., token] < logits.max(-1).values).all()
    assert (logits.argmax(-1) != token).all()


def test_the_form_says_how_to_ask(hf_export: Path) -> None:
    form = json.loads((hf_export / "moslora_export.json").read_text())
    assert (form["format"], form["kind"], form["name"], form["pad_image_to_square"]) == (1, "hf-llava", "tiny", True)
    assert form["template"]["INSTRUCTION"].count("{input}") == 1
    assert form["template"]["STOP_WORDS"] == ["<|eot_id|>"]
    assert list(hf_export.glob("*.safetensors"))
    assert not list(hf_export.glob("*.bin"))


STOCK_PEFT = """
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CLIPVisionModel
base, lora, inputs, out = sys.argv[1:]
given = load_file(inputs)
llm = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base + "/llm"), lora + "/llm_adapter").eval()
vit = PeftModel.from_pretrained(
    CLIPVisionModel.from_pretrained(base + "/visual_encoder"), lora + "/visual_encoder_adapter").eval()
assert not any(name.startswith("moslora") for name in sys.modules)
with torch.no_grad():
    save_file({
        "logits": llm(input_ids=given["ids"]).logits,
        "hidden": vit(given["pixels"], output_hidden_states=True).hidden_states[-2].contiguous(),
    }, out)
"""


def test_lora_export_is_exact_in_stock_peft(
    tuned: tuple[Any, Path], tiny_base: Path, llama3_tokenizer: Any, tmp_path: Path
) -> None:
    """Another Python that never hears of this package."""
    model, run = tuned
    lora = export(run, tmp_path / "lora", format="lora")
    assert json.loads((lora / "moslora_export.json").read_text())["name"] == run.name
    ids = ids_of(llama3_tokenizer, None)
    save_file({"ids": ids, "pixels": pixels()}, tmp_path / "in.safetensors")
    script = [
        STOCK_PEFT,
        str(tiny_base),
        str(lora),
        str(tmp_path / "in.safetensors"),
        str(tmp_path / "out.safetensors"),
    ]
    done = subprocess.run([sys.executable, str(SCRIPT), *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out.safetensors")
    with torch.no_grad():
        hidden = model.visual_encoder(pixels(), output_hidden_states=True).hidden_states[-2]
    assert (found["logits"] - tuned_logits(model, llama3_tokenizer, False)).abs().max() < 1e-4
    assert (found["hidden"] - hidden).abs().max() < 1e-4
    trained = load_file(run / "adapters" / "projector" / "model.safetensors")
    assert all(torch.equal(w, trained[n]) for n, w in load_file(lora / "projector" / "model.safetensors").items())


def test_a_base_model_is_exported_as_it_is(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(export(tiny_base, tmp_path / "base")).eval()
    base = AutoModelForCausalLM.from_pretrained(tiny_base / "llm").eval()
    for name, weight in base.model.layers.state_dict().items():
        assert torch.equal(model.language_model.model.layers.state_dict()[name], weight)
    form = json.loads((tmp_path / "base" / "moslora_export.json").read_text())
    assert form["name"] == "base"
    with pytest.raises(ExportError, match="no LoRA to write"):
        export(tiny_base, tmp_path / "lora", format="lora")


def test_an_unfinished_run_is_refused(tuned: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="neither a finished run"):
        export(tmp_path, tmp_path / "out")
    shutil.copytree(tuned[1], tmp_path / "run")
    (tmp_path / "run" / "adapters" / "training.json").write_text('{"llm": ')
    with pytest.raises(ExportError, match=r"training\.json cannot be read"):
        export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_formats_and_foreign_folders_are_refused(tuned: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'gguf': use hf or lora"):
        export(tuned[1], tmp_path / "out", format="gguf")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not made by moslora"):
        export(tuned[1], tmp_path, format="lora")


def test_a_projector_of_three_layers_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    file = tmp_path / "base" / "projector" / "model.safetensors"
    save_file({**load_file(file), "model.4.weight": torch.eye(32), "model.4.bias": torch.zeros(32)}, file)
    with pytest.raises(ExportError, match="two layers"):
        export(tmp_path / "base", tmp_path / "out")


def test_a_merge_that_does_not_equal_the_tuned_model_is_refused(
    tuned: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage the merge itself: nothing is written."""
    from peft import PeftModel

    def unmerged(self: Any, **_: Any) -> Any:
        return self.unload()

    monkeypatch.setattr(PeftModel, "merge_and_unload", unmerged, raising=False)
    with pytest.raises(ExportError, match=r"the language model .* differs from the tuned one"):
        export(tuned[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()
