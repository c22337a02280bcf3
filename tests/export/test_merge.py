"""What is exported computes what was tuned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
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
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(hf_export).eval()
    token = model.config.image_token_index
    assert AutoTokenizer.from_pretrained(hf_export).convert_tokens_to_ids("<image>") == token
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
import sys, torch, warnings
warnings.simplefilter("error")
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration
folder, inputs, out = sys.argv[1:]
given = load_file(inputs)
base = LlavaForConditionalGeneration.from_pretrained(folder + "/base")
model = PeftModel.from_pretrained(base, folder + "/adapter").eval()
assert not any(name.startswith("moslora") for name in sys.modules)
found = model.load_adapter(folder + "/adapter", "again")
assert not found.unexpected_keys and not [n for n in found.missing_keys if "lora" in n], found
with torch.no_grad():
    logits = model(input_ids=given["ids"], pixel_values=given["pixels"]).logits
save_file({"logits": logits}, out)
"""


@pytest.mark.parametrize("tower", [False, True])
def test_lora_export_is_exact_in_stock_peft(
    tuned: tuple[Any, Path], llama3_tokenizer: Any, tmp_path: Path, tower: bool
) -> None:
    """Another Python that never hears of this package: a LLaVA, and one plain LoRA of it."""
    model, run = tuned
    lora = export(run, tmp_path / "lora", format="lora", tower_lora=tower)
    assert json.loads((lora / "moslora_export.json").read_text())["name"] == run.name
    config = json.loads((lora / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", 4)
    keys = load_file(lora / "adapter" / "adapter_model.safetensors").keys()
    assert any(".vision_tower." in key for key in keys) == tower
    token = json.loads((lora / "base" / "config.json").read_text())["image_token_index"]
    save_file({"ids": ids_of(llama3_tokenizer, token), "pixels": pixels()}, tmp_path / "in.safetensors")
    words = [STOCK_PEFT, str(lora), str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out.safetensors")["logits"]
    wanted = tuned_logits(model, llama3_tokenizer, True)
    assert (found[..., : wanted.shape[-1]] - wanted).abs().max() < 1e-4
    # It is a source like the run: merged, it is the merged run.
    merged = load_file(export(lora, tmp_path / "hf") / "model.safetensors") if not tower else {}
    plain = load_file(export(run, tmp_path / "plain") / "model.safetensors")
    assert all(torch.allclose(weight, plain[name], atol=1e-6) for name, weight in merged.items())


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
    with pytest.raises(UsageError, match="'gguf' is none of hf, lora"):
        export(tuned[1], tmp_path / "out", format="gguf")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not made by moslora"):
        export(tuned[1], tmp_path, format="lora")


def test_a_full_disk_or_an_interrupt_leaves_nothing(
    tuned: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors' own error for a disk that fills, as it words it; and Ctrl-C in the middle of the blocks."""
    import safetensors.torch
    from safetensors import SafetensorError

    from moslora_xtuner.export.llm import StreamedLlm

    before = export(tuned[1], tmp_path / "out")
    kept = (before / "model.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OutputError, match="no space left for"):
            export(tuned[1], tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(StreamedLlm, "merged", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export(tuned[1], tmp_path / "out")
    # What was there before is there whole, and nothing beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (before / "model.safetensors").read_bytes() == kept


def test_a_projector_of_three_layers_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    file = tmp_path / "base" / "projector" / "model.safetensors"
    save_file({**load_file(file), "model.4.weight": torch.eye(32), "model.4.bias": torch.zeros(32)}, file)
    with pytest.raises(ExportError, match="two layers"):
        export(tmp_path / "base", tmp_path / "out")


def test_a_merge_that_does_not_equal_the_tuned_model_is_refused(
    tuned: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage the merge itself, or what is written: nothing stands there."""
    from moslora_xtuner.export.llm import StreamedLlm
    from moslora_xtuner.export.shards import Shards

    def times(start: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * 1.01 if name.startswith(start) else tensor

    add = Shards.add
    with monkeypatch.context() as patch:
        patch.setattr(StreamedLlm, "merged", lambda self, block: block.unload())
        with pytest.raises(ExportError, match=r"merged into .* is not the two together: logits differ by"):
            export(tuned[1], tmp_path / "out")
    for wrong in (
        "language_model.model.layers.1.mlp.down_proj",
        "multi_modal_projector.linear_2",
        "vision_tower.vision",
    ):
        with monkeypatch.context() as patch:
            change = partial(times, wrong)
            patch.setattr(Shards, "add", lambda self, name, tensor, c=change: add(self, name, c(name, tensor)))
            with pytest.raises(ExportError, match="does not hold what was to be written: logits differ by"):
                export(tuned[1], tmp_path / "out")
    assert not list(tmp_path.iterdir())
