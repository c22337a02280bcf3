"""A tuned language model as a stock one: the trained logits, the training's tokens, a LoRA beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import standins
import torch
from peft import AdaLoraConfig, LoHaConfig, LoKrConfig, LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.tokens.tokenise import Encoder, tokenise
from moslora_xtuner.errors import ExportError, UsageError
from moslora_xtuner.export.form import CAUSAL_LM, LORA, ExportForm
from moslora_xtuner.export.merge import export
from moslora_xtuner.llm.load import load_llm, load_tokenizer
from moslora_xtuner.training.artifacts import TrainingRecord
from moslora_xtuner.training.hooks import quantisation_of, write_parts

TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "internlm2": ["wqkv", "w2"]}
IDS = torch.tensor([[1, 5, 9, 12, 7, 3, 11, 4]])


def make_base(folder: Path, family: str, tied: bool = False) -> Path:
    if family == "internlm2":
        return standins.make_internlm2(folder)
    tokenizer = standins.make_llama3_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied, initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_run(base: Path, run: Path, config: Any, template: str = "alpaca", **loading: Any) -> MosLoraCausalLM:
    """A run's folder, without the training: every factor is random, and some of AdaLoRA's ranks are taken."""
    model = MosLoraCausalLM(load_llm(base, **loading), config, use_activation_checkpointing=False).eval()
    generator = torch.Generator().manual_seed(4)
    for name, weight in sorted(model.named_parameters()):
        if weight.requires_grad and "magnitude" not in name:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3 / weight.shape[-1] ** 0.5)
    if isinstance(config, AdaLoraConfig):
        config.rank_pattern = {}
        for number, (name, weight) in enumerate(model.llm.base_model.model.named_parameters()):
            if "lora_E" in name:
                kept = [place % 3 != number % 3 for place in range(len(weight))]
                weight.data[~torch.tensor(kept)] = 0
                config.rank_pattern[name] = kept
    folder = run / "adapters"
    folder.mkdir(parents=True)
    write_parts(model, folder)
    TrainingRecord(
        llm=str(base), visual_encoder="", template=template, pad_image_to_square=False, visual_select_layer=0,
        dtype={"llm": "float32"}, **quantisation_of(model),
    ).write(folder)  # fmt: skip
    return model


def method(name: str, targets: list[str]) -> Any:
    shared = {"target_modules": targets, "task_type": "CAUSAL_LM"}
    return {
        "lora": lambda: LoraConfig(r=4, **shared),
        "dora": lambda: LoraConfig(r=4, use_dora=True, **shared),
        "moslora": lambda: MosLoraConfig(r=4, **shared),
        "frozen": lambda: MosLoraConfig(r=4, freeze_mixer=True, **shared),
        "loha": lambda: LoHaConfig(r=4, **shared),
        "lokr": lambda: LoKrConfig(r=4, **shared),
        "adalora": lambda: AdaLoraConfig(init_r=6, target_r=3, total_step=9, **shared),
    }[name]()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["dora", "moslora", "frozen", "loha", "lokr", "adalora"])
def test_merged_it_computes_what_was_trained(name: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    model = make_run(base, tmp_path / "run", method(name, TARGETS["llama"]))
    made = export(tmp_path / "run", tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(made).eval()
    assert type(merged) is LlamaForCausalLM
    assert_same(logits(merged), logits(model.llm))
    assert ExportForm.read(made).kind == CAUSAL_LM
    assert str(tmp_path) not in "".join(path.read_text() for path in made.glob("*.json"))
    assert "AutoModelForCausalLM" in (made / "README.md").read_text()


@pytest.mark.parametrize("family", ["llama", "internlm2"])
def test_a_plain_lora_beside_its_base(family: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family)
    model = make_run(base, tmp_path / "run", method("moslora", TARGETS[family]))
    made = export(tmp_path / "run", tmp_path / "out", format="lora")
    assert ExportForm.read(made).kind == LORA
    stock = AutoModelForCausalLM.from_pretrained(made / "base").eval()
    assert_same(logits(stock), logits(load_llm(base).eval()))
    assert_same(logits(PeftModel.from_pretrained(stock, made / "adapter").eval()), logits(model.llm))
    again = export(made, tmp_path / "merged")  # from what stands there
    assert_same(logits(AutoModelForCausalLM.from_pretrained(again).eval()), logits(model.llm))


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", tied=True)
    model = make_run(base, tmp_path / "run", method("moslora", TARGETS["llama"]))
    made = export(tmp_path / "run", tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(made).eval()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert json.loads((made / "config.json").read_text())["tie_word_embeddings"] is True
    assert_same(logits(merged), logits(model.llm))


def test_an_export_in_4_bits_is_of_what_was_trained(tmp_path: Path) -> None:
    from transformers import BitsAndBytesConfig

    from moslora_xtuner.llm.quantise_on_cpu import quantise_on_cpu

    quantise_on_cpu()
    base = make_base(tmp_path / "base", "llama")
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = make_run(
        base, tmp_path / "run", method("moslora", TARGETS["llama"]), quantization_config=nf4, torch_dtype=torch.float32
    )
    for form in ("hf", "lora"):
        made = export(tmp_path / "run", tmp_path / form, format=form)
        # From the export of the form `lora` too: its base is dequantised already, and not quantised once more.
        made = made if form == "hf" else export(made, tmp_path / "merged")
        found = logits(AutoModelForCausalLM.from_pretrained(made).eval())
        assert float((found - logits(model.llm)).abs().max() / found.abs().max()) < 1e-4


@pytest.mark.parametrize("family", ["llama", "internlm2"])
@pytest.mark.parametrize("name", ["alpaca", "chat"])
def test_the_chat_template_writes_the_trainings_tokens(name: str, family: str, tmp_path: Path) -> None:
    """And plain text is opened as the base's tokenizer opens it, as harnesses ask."""
    base = make_base(tmp_path / "base", family)
    called = "alpaca" if name == "alpaca" else {"llama": "llama3_chat", "internlm2": "internlm2_chat"}[family]
    make_run(base, tmp_path / "run", method("lora", TARGETS[family]), template=called)
    made = export(tmp_path / "run", tmp_path / "out")
    theirs, ours, template = AutoTokenizer.from_pretrained(made), load_tokenizer(base), get_template(called)
    record = Record("0", (), (("What colour is this?\n\nred/green", "It is red."),))
    ((ids, _),) = tokenise([record], Encoder(ours, plain=template.plain), template)
    turns = [{"role": "user", "content": record.turns[0][0]}, {"role": "assistant", "content": record.turns[0][1]}]
    written = theirs.apply_chat_template(turns, tokenize=True)
    assert written[: len(ids)] == ids
    assert theirs.decode(written[len(ids) :]).strip() == ""
    asked = theirs.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=True)
    if name == "chat":
        assert ids[: len(asked)] == asked
    assert theirs("It is red.")["input_ids"] == ours("It is red.")["input_ids"]


def test_what_has_no_such_form_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    make_run(base, tmp_path / "run", method("loha", TARGETS["llama"]))
    with pytest.raises(ExportError, match="of the type LOHA, and no plain LoRA"):
        export(tmp_path / "run", tmp_path / "out", format="lora")
    with pytest.raises(UsageError, match="a language model alone"):
        export(tmp_path / "run", tmp_path / "out", format="xtuner")
    assert not (tmp_path / "out").exists()
