"""Which layers may have a mixer: the same answer for every way of naming them, before one is wrapped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter
from moslora_xtuner.errors import AdapterError

IDS = torch.tensor([[1, 5, 9, 2, 7]])


class Mixture(nn.Module):
    """A layer of each kind that PEFT can adapt."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.conv = nn.Conv2d(3, 4, 1)
        self.line = nn.Conv1d(3, 4, 1)
        self.words = nn.Embedding(5, 8)
        self.proj = nn.Linear(8, 8)


def untouched(model: nn.Module) -> bool:
    return not [name for name, _ in model.named_modules() if "lora" in name]


UNFIT = [
    ("attn", "MultiheadAttention"),
    ("out_proj", "NonDynamicallyQuantizableLinear"),
    ("conv", "Conv2d"),
    ("line", "Conv1d"),
    ("words", "Embedding"),
]
WAYS: list[Callable[[str], Any]] = [
    lambda name: ["proj", name],
    lambda name: rf"(.*\.)?(proj|{name})",
    lambda name: {name},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("target", "kind"), UNFIT)
def test_other_layers_are_refused_before_anything_is_changed(target: str, kind: str, way: Callable[[str], Any]) -> None:
    model = Mixture()
    config = MosLoraConfig(r=2, target_modules=way(target))
    before = copy.deepcopy(config.target_modules)
    for put in (get_peft_model, lambda m, c: inject_adapter_in_model(c, m)):
        with pytest.raises(AdapterError, match=rf"{target} \({kind}\)"):
            put(model, config)
        assert untouched(model)
        assert config.target_modules == before


def test_weights_that_name_other_layers_are_refused_too() -> None:
    model = Mixture()
    state = {"proj.lora_A.weight": torch.zeros(2, 8), "words.lora_embedding_A": torch.zeros(2, 5)}
    with pytest.raises(AdapterError, match=r"words \(Embedding\)"):
        inject_adapter_in_model(MosLoraConfig(r=2, target_modules=["proj"]), model, state_dict=state)
    assert untouched(model)


def test_a_layer_that_the_user_makes_himself_is_refused() -> None:
    config = MosLoraConfig(r=2, target_modules=["proj"])
    config._register_custom_module({nn.Linear: nn.Linear})
    model = Mixture()
    with pytest.raises(AdapterError, match=r"proj \(Linear\)"):
        get_peft_model(model, config)
    assert untouched(model)


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    special = {"bos_token_id": 1, "eos_token_id": 2}
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=64, n_positions=32, **special)).eval()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("mixer", ["learned", "butterfly"])
@pytest.mark.parametrize("targets", ["all-linear", ["c_attn", "c_fc", "c_proj"]])
def test_the_conv1d_of_gpt2_is_mixed_merged_saved_and_folded(targets: Any, mixer: str, tmp_path: Path) -> None:
    def logits(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model(input_ids=IDS).logits

    model = get_peft_model(gpt2(), MosLoraConfig(r=4, lora_alpha=8, target_modules=targets, mixer=mixer)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    wanted = logits(model)
    layer = model.base_model.model.transformer.h[0].attn.c_attn
    a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
    delta = (layer.scaling["default"] * b @ layer.lora_AB["default"].matrix(torch.float64, torch.device("cpu")) @ a).T
    assert float((layer.get_delta_weight("default") - delta).abs().max().detach()) < 1e-6
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    assert torch.equal(logits(PeftModel.from_pretrained(gpt2(), str(tmp_path / "adapter"))), wanted)
    folded = PeftModel.from_pretrained(gpt2(), str(fold_adapter(tmp_path / "adapter", tmp_path / "folded")))
    for other in (folded, model.merge_and_unload(safe_merge=True)):
        assert float((logits(other) - wanted).abs().max() / wanted.abs().max()) < 1e-5


MIXTRAL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_local_experts": 4}


@pytest.mark.parametrize("targets", ["all-linear", ["gate"], ["q_proj", "w1", "w2", "w3"], ["experts"]])
def test_the_experts_of_a_mixture_are_mixed_as_layers_or_refused_in_words(targets: Any, tmp_path: Path) -> None:
    config = transformers.MixtralConfig(num_attention_heads=4, num_key_value_heads=2, **MIXTRAL)
    model = transformers.MixtralForCausalLM(config).eval()
    base = copy.deepcopy(model)
    mixers = MosLoraConfig(r=4, target_modules=targets)
    before = copy.deepcopy(mixers)
    try:
        adapted = get_peft_model(model, mixers).eval()
    except AdapterError:
        assert untouched(model)
        assert mixers.target_modules == before.target_modules
        assert not mixers.target_parameters
        return
    except ValueError as error:
        if "not found in the base model" not in str(error):  # stock's own words for a name that no layer has
            raise
        return
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = PeftModel.from_pretrained(base, str(tmp_path))
    assert torch.equal(again(input_ids=IDS).logits, adapted(input_ids=IDS).logits)


def test_transformers_own_add_adapter(llama: Callable[..., Any]) -> None:
    model = llama()
    try:
        model.add_adapter(LoraConfig(r=4, target_modules=["v_proj"]), adapter_name="stock")
    except ValueError as error:
        if "version of PEFT" not in str(error):
            raise
        pytest.skip(f"this transformers takes no peft {peft.__version__}")
    model = llama()
    model.add_adapter(MosLoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], mixer_init="orthogonal"))
    layer = model.model.layers[0].self_attn.q_proj
    layer.lora_B["default"].weight.data.normal_()
    x = torch.randn(3, 32)
    wanted = layer.base_layer(x) + x @ layer.get_delta_weight("default").T
    assert float((layer(x) - wanted).abs().max().detach()) < 1e-5
    assert {n.split(".lora_")[1] for n, p in model.named_parameters() if p.requires_grad} == {
        f"{part}.default.weight" for part in ("A", "AB", "B")
    }
    with pytest.raises(AdapterError, match=r"embed_tokens \(Embedding\)"):
        model.add_adapter(MosLoraConfig(r=4, target_modules=["embed_tokens"]), adapter_name="words")
