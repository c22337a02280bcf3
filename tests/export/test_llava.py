"""What stands on the disk computes what was trained: each family, plain and quantised, whole models against each other.

The trained model is XTuner's, with quantised layers and the adapter beside them; the other is stock transformers'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import standins
import torch
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, CLIPVisionModel, LlamaForCausalLM, LlavaForConditionalGeneration
from tuned_runs import write_run

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import ExportError
from moslora_xtuner.export.merge import export
from moslora_xtuner.llm.load import load_llm
from moslora_xtuner.llm.quantise_on_cpu import quantise_on_cpu
from moslora_xtuner.model import MosLoraLLaVA

TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "internlm2": ["wqkv", "wo", "w2"],
    "tied": ["q_proj", "gate_proj"],
}
BITS = {
    "fp32": {},
    "bf16": {},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
GAP = {"fp32": 5e-6, "bf16": 2e-2, "nf4": 5e-6, "int8": 5e-2}
"""Of the logits' scale: float32 rounds sums, bf16 weights, 8-bit layers what goes into them."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    tied = standins.make_llama3(root / "tied")
    model = LlamaForCausalLM.from_pretrained(tied)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tied)
    made = {"llama": standins.make_llama3(root / "llama"), "internlm2": standins.make_internlm2(root / "internlm2")}
    return made | {"tied": tied, "clip": standins.make_clip(root / "clip")}


def train(bases: dict[str, Path], family: str, kind: str, folder: Path) -> tuple[Any, Path]:
    """A model as training leaves it, and its run's folder."""
    quantise_on_cpu()
    options: dict[str, Any] = {"torch_dtype": torch.bfloat16 if kind == "bf16" else torch.float32}
    if BITS[kind]:
        options["quantization_config"] = BitsAndBytesConfig(**BITS[kind], bnb_4bit_compute_dtype="float32")
    seen = options if kind == "nf4" else {"torch_dtype": options["torch_dtype"]}
    width = json.loads((bases[family] / "config.json").read_text())["hidden_size"]
    torch.manual_seed(0)
    model = MosLoraLLaVA(
        llm=load_llm(bases[family], **options),
        visual_encoder=CLIPVisionModel.from_pretrained(bases["clip"], **seen),
        freeze_llm=True,
        freeze_visual_encoder=True,
        use_activation_checkpointing=False,
        projector_weights=str(standins.make_projector(folder / "projector", width)),
        llm_lora=MosLoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=TARGETS[family]),
        visual_encoder_lora=MosLoraConfig(r=4, lora_alpha=8, target_modules=["v_proj", "fc1"]),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.05)
    loaded = str(options["torch_dtype"]).removeprefix("torch.")
    template = "internlm2_chat" if family == "internlm2" else "llama3_chat"
    return model.eval(), write_run(model, bases[family], bases["clip"], folder / "run", template, loaded)


def gap(model: Any, exported: Path) -> float:
    """Largest difference of the two models' logits, of the largest logit, on a picture and words."""
    stock = LlavaForConditionalGeneration.from_pretrained(exported, torch_dtype=torch.float32).eval()
    edge, places = stock.config.vision_config.image_size, stock.config.image_seq_length
    pixels = torch.randn(1, 3, edge, edge, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 5, 9, *[-200] * places, *range(20, 60)]])
    data = {"input_ids": ids, "attention_mask": torch.ones_like(ids).bool(), "labels": ids.clamp(min=0)}
    with torch.no_grad():
        wanted = model({**data, "pixel_values": pixels}, mode="tensor").logits.float()
        named = torch.where(ids == -200, stock.config.image_token_index, ids)
        found = stock(input_ids=named, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
    assert wanted.abs().max() > 0.1
    return float((found[..., : wanted.shape[-1]] - wanted).abs().max() / wanted.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize("family", TARGETS)
def test_stock_transformers_computes_what_was_trained(
    bases: dict[str, Path], family: str, kind: str, tmp_path: Path
) -> None:
    model, run = train(bases, family, kind, tmp_path)
    told: list[str] = []
    exported = export(run, tmp_path / "hf", tell=told.append)
    assert gap(model, exported) <= GAP[kind]
    config = json.loads((exported / "config.json").read_text())
    assert config["torch_dtype"] == ("bfloat16" if kind == "bf16" else "float32")
    heads = load_file(exported / "model.safetensors")
    alike = torch.equal(heads["language_model.lm_head.weight"], heads["language_model.model.embed_tokens.weight"])
    assert alike == (family == "tied")
    # As a LoRA beside its base: the same, in one of the number types.
    export(run, tmp_path / "lora", format="lora", tell=told.append)
    assert all(("layers compute it" in line) == bool(BITS[kind]) for line in told)
    if not BITS[kind]:
        return
    # Merged into the weights from before quantisation it is another model, and says so.
    other = export(run, tmp_path / "original", base="original", tell=told.append)
    assert "merged into the original base" in told[-1]
    said = float(told[-1].split("differ by ")[1].split()[0])
    assert said > 1e-2
    assert "that is another model" in (other / "README.md").read_text()
    if kind == "nf4":
        assert gap(model, other) > 1e-2


def test_another_number_type_may_be_asked_for(bases: dict[str, Path], tmp_path: Path) -> None:
    model, run = train(bases, "llama", "fp32", tmp_path)
    exported = export(run, tmp_path / "half", dtype="fp16")
    assert {w.dtype for w in load_file(exported / "model.safetensors").values()} == {torch.float16}
    assert gap(model, exported) < 5e-3


def test_another_base_under_the_same_name_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    """By its content: one weight of one layer, or one line of its config."""
    import shutil

    from safetensors.torch import save_file

    from moslora_xtuner.llm.weights import content_of

    here = {**bases, "llama": Path(shutil.copytree(bases["llama"], tmp_path / "base"))}
    _, run = train(here, "llama", "fp32", tmp_path)
    file = run / "adapters" / "training.json"
    recorded = {"llm": content_of(here["llama"]), "visual_encoder": content_of(here["clip"])}
    file.write_text(json.dumps({**json.loads(file.read_text()), "base": recorded}))
    export(run, tmp_path / "same")
    weights = load_file(here["llama"] / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] += 1e-3
    save_file(weights, here["llama"] / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="base is not the model that was trained: its weights differ"):
        export(run, tmp_path / "other")
    shutil.copy(bases["llama"] / "model.safetensors", here["llama"] / "model.safetensors")
    config = json.loads((here["llama"] / "config.json").read_text())
    (here["llama"] / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    with pytest.raises(ExportError, match="its config differ"):
        export(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_nothing_of_this_machine_is_written(bases: dict[str, Path], tmp_path: Path) -> None:
    _, run = train(bases, "llama", "fp32", tmp_path)
    for format in ("hf", "lora"):
        out = export(run, tmp_path / format, format=format)
        for path in out.rglob("*"):
            assert not path.is_file() or str(tmp_path.parent).encode() not in path.read_bytes(), path
            assert not path.is_file() or str(bases["llama"].parent).encode() not in path.read_bytes(), path
