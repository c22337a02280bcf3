"""Every way in which weights reach a mixed model: what does not fit changes nothing, what fits is whole."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from packaging.version import Version
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.integrations.peft import MIN_PEFT_VERSION

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.adapters.loading.rehearsal import shell
from moslora_xtuner.errors import AdapterError

Saved = Callable[..., tuple[PeftModel, Path]]
Llama = Callable[..., nn.Module]
Trained = Callable[..., PeftModel]
Logits = Callable[..., Tensor]
Edit = Callable[[dict[str, Tensor]], object]

TAKES_THIS_PEFT = Version(peft.__version__) >= Version(MIN_PEFT_VERSION)
"""transformers 5.24 refuses peft 0.21, which is the newest on the day it came out, in all but load_adapter."""
LOADS_WITH_THIS_PEFT = Version(transformers.__version__) < Version("5") or (
    importlib.util.find_spec("peft.utils.transformers_weight_conversion") is not None
)
"""The load_adapter of transformers 5 imports a module that peft 0.18 does not have, for plain LoRA too."""
own_load_adapter = pytest.mark.skipif(not LOADS_WITH_THIS_PEFT, reason="this transformers cannot load with this peft")
LAYER = "base_model.model.model.layers.1.mlp.up_proj"
MIXER = f"{LAYER}.lora_AB.weight"


def snapshot(model: nn.Module) -> tuple[Any, ...]:
    """All that a refusal may not change."""
    return (
        {name: (type(module), module.training) for name, module in model.named_modules()},
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: p.requires_grad for name, p in model.named_parameters()},
        dict(getattr(model, "peft_config", {})),
    )


def unchanged(model: nn.Module, before: tuple[Any, ...]) -> None:
    now = snapshot(model)
    assert now[0] == before[0]
    assert now[1].keys() == before[1].keys()
    assert all(torch.equal(now[1][name], before[1][name]) for name in before[1])
    assert now[2:] == before[2:]


def edit(path: Path, change: Edit) -> None:
    state = load_file(path / "adapter_model.safetensors")
    change(state)
    save_file(state, path / "adapter_model.safetensors")


DAMAGES: dict[str, tuple[Edit, str]] = {
    "missing": (lambda s: s.pop(MIXER), r"missing .*up_proj\.lora_AB"),
    "shape": (lambda s: s.update({MIXER: torch.eye(3)}), r"is \(3, 3\), not \(4, 4\)"),
    "nan": (lambda s: s[MIXER].fill_(float("nan")), "not finite"),
    "left over": (lambda s: s.update({MIXER.replace("up_proj", "act_fn"): torch.eye(4)}), "no place for"),
    "A left over": (lambda s: s.update({MIXER.replace("up_proj.lora_AB", "act_fn.lora_A"): torch.eye(4)}), "no place"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["second", "default"])
def test_load_adapter_beside_or_over_another(
    saved: Saved, trained: Trained, logits: Logits, damage: str, name: str
) -> None:
    change, words = DAMAGES[damage]
    wanted, path = saved(seed=3)
    whole = load_file(path / "adapter_model.safetensors")
    edit(path, change)
    model = trained(seed=5)
    before = snapshot(model)
    with pytest.raises(AdapterError, match=words):
        model.load_adapter(str(path), name)
    unchanged(model, before)
    save_file(whole, path / "adapter_model.safetensors")
    model.load_adapter(str(path), name)
    model.set_adapter(name)
    assert torch.equal(logits(model.eval()), logits(wanted))


def test_a_truncated_file_over_an_existing_name(saved: Saved, trained: Trained) -> None:
    _, path = saved()
    file = path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    model = trained(seed=5)
    before = snapshot(model)
    with pytest.raises(AdapterError, match="cannot be read"):
        model.load_adapter(str(path), "default")
    unchanged(model, before)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("injected", [False, True])
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_set_peft_model_state_dict(
    trained: Trained, llama: Llama, damage: str, injected: bool, low_cpu_mem_usage: bool
) -> None:
    """The loader of diffusers and of many trainers: into a PeftModel, or into a model with layers injected."""
    change, words = DAMAGES[damage]
    state = {k: v.clone() for k, v in get_peft_model_state_dict(trained(seed=3), save_embedding_layers=False).items()}
    change(state)
    model: nn.Module = trained(seed=5)
    if injected:
        config = MosLoraConfig(
            r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
        )
        model = inject_adapter_in_model(config, llama())
        state = {name.removeprefix("base_model.model."): value for name, value in state.items()}
    before = snapshot(model)
    with pytest.raises(AdapterError, match=words):
        set_peft_model_state_dict(model, state, low_cpu_mem_usage=low_cpu_mem_usage)
    unchanged(model, before)


@own_load_adapter
@pytest.mark.parametrize("config", [{}, {"mixer": "butterfly"}, {"freeze_mixer": True}, {"use_dora": True}])
def test_transformers_own_load_adapter(saved: Saved, llama: Llama, logits: Logits, config: dict[str, Any]) -> None:
    model, path = saved(**config)
    base = llama()
    base.load_adapter(str(path))
    assert torch.equal(logits(base.eval()), logits(model))
    base.load_adapter(str(path), adapter_name="second")
    if TAKES_THIS_PEFT:
        base.set_adapter("second")
    assert torch.equal(logits(base.eval()), logits(model))


@own_load_adapter
def test_transformers_own_load_adapter_with_a_state_dict(saved: Saved, llama: Llama, logits: Logits) -> None:
    model, path = saved()
    state = load_file(path / "adapter_model.safetensors")
    config = MosLoraConfig.from_pretrained(str(path))
    partial = {name: value for name, value in state.items() if name != MIXER}
    base = llama()
    before = snapshot(base)
    with pytest.raises(AdapterError, match=r"missing .*up_proj\.lora_AB"):
        base.load_adapter(peft_config=config, adapter_state_dict=partial)
    unchanged(base, before)
    base.load_adapter(peft_config=config, adapter_state_dict=state)
    assert torch.equal(logits(base.eval()), logits(model))


@pytest.mark.skipif(not TAKES_THIS_PEFT, reason=f"this transformers wants peft {MIN_PEFT_VERSION}")
def test_transformers_own_add_adapter(llama: Llama, logits: Logits) -> None:
    base = llama()
    before = snapshot(base)
    with pytest.raises((AdapterError, ValueError)):
        base.add_adapter(MosLoraConfig(r=4, target_modules=["embed_tokens"]))
    assert {name: type(m) for name, m in base.named_modules()} == {name: kind for name, (kind, _) in before[0].items()}
    base = llama()
    base.add_adapter(MosLoraConfig(r=4, target_modules=["q_proj"]))
    assert any("lora_AB" in name for name, _ in base.named_parameters())


def test_a_config_of_the_callers_own(saved: Saved, llama: Llama, logits: Logits) -> None:
    model, path = saved()
    config = MosLoraConfig.from_pretrained(str(path))
    again = PeftModel.from_pretrained(llama(), str(path), config=config)
    assert torch.equal(logits(again.eval()), logits(model))
    other = MosLoraConfig(r=6, target_modules=["q_proj"])
    base = llama()
    before = snapshot(base)
    with pytest.raises(AdapterError, match=r"\(4, 32\), not \(6, 32\)"):
        PeftModel.from_pretrained(base, str(path), config=other)
    unchanged(base, before)
    assert other.r == 6
    # The config of a directory may start another training, on another model: then there is nothing to fit.
    assert get_peft_model(nn.Sequential(nn.Linear(5, 5)), MosLoraConfig(**{**vars_of(config), "target_modules": ["0"]}))


def vars_of(config: MosLoraConfig) -> dict[str, Any]:
    return {"r": config.r, "lora_alpha": config.lora_alpha, "mixer_init": config.mixer_init}


def test_a_key_mapping_of_the_callers_own(saved: Saved, llama: Llama, logits: Logits) -> None:
    model, path = saved()
    edit(path, lambda s: [s.update({k.replace("self_attn", "attention"): s.pop(k)}) for k in list(s)])
    with pytest.raises(AdapterError, match=r"missing model\.layers.*no place for model.*attention"):
        PeftModel.from_pretrained(llama(), str(path))
    again = PeftModel.from_pretrained(llama(), str(path), key_mapping={r"\.attention\.": ".self_attn."})
    assert torch.equal(logits(again.eval()), logits(model))


def test_weights_of_the_base(saved: Saved, llama: Llama, logits: Logits) -> None:
    _, path = saved()
    norm = "base_model.model.model.norm.weight"
    edit(path, lambda s: s.update({norm: torch.zeros(32)}))
    base = llama()
    before = snapshot(base)
    with pytest.raises(AdapterError, match="would replace a weight of the base"):
        PeftModel.from_pretrained(base, str(path))
    unchanged(base, before)
    embedding = llama(seed=8).model.embed_tokens.weight.detach().clone()
    edit(path, lambda s: (s.pop(norm), s.update({"base_model.model.model.embed_tokens.weight": embedding})))
    with pytest.warns(UserWarning, match=r"embed_tokens\.weight, which replaces the base model's"):
        again = PeftModel.from_pretrained(base, str(path))
    assert torch.equal(again.get_base_model().model.embed_tokens.weight, embedding)


def test_a_plain_lora_loads_as_in_stock(llama: Llama, tmp_path: Path) -> None:
    """What stock PEFT lets pass, and what it warns of, it does here too."""
    plain = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    plain.save_pretrained(str(tmp_path), save_embedding_layers=False)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    edit(tmp_path, lambda s: (s.pop(key), s.update({"base_model.model.model.norm.weight": torch.zeros(32)})))
    with pytest.warns(UserWarning, match="missing adapter keys"):
        loaded = PeftModel.from_pretrained(llama(), str(tmp_path))
    assert not loaded.get_base_model().model.norm.weight.any()
    assert type(loaded.peft_config["default"]) is LoraConfig
    named = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]), adapter_name="lora_AB")
    named.load_state_dict(named.state_dict())
    mixed = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]), mixed=True)
    mixed.load_adapter(str(tmp_path), "second")
    assert list(mixed.peft_config) == ["default", "second"]


def test_the_doors_keep_their_signatures() -> None:
    from moslora_xtuner.adapters.loading import doors

    assert inspect.signature(PeftModel.load_adapter) == inspect.signature(doors._stock_load_adapter)
    assert "model_id" in inspect.signature(PeftModel.from_pretrained).parameters


def test_a_shell_shares_tensors_and_no_modules(trained: Trained) -> None:
    model = trained()
    twin = shell(model)
    assert [name for name, _ in twin.named_modules()] == [name for name, _ in model.named_modules()]
    assert not {id(m) for m in twin.modules()} & {id(m) for m in model.modules()}
    assert all(a is b for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    assert twin.peft_config is twin.base_model.model.peft_config is not model.peft_config
