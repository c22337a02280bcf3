"""PEFT's tools that take A and B for the whole adapter: right for a mixed one, or refused before anything changes."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter
from moslora_xtuner.adapters.registration import register
from moslora_xtuner.errors import AdapterError

Llama = Callable[..., nn.Module]
Logits = Callable[[nn.Module], Tensor]
Trained = Callable[..., PeftModel]

REFUSED: dict[str, tuple[str, str, Callable[[Callable[..., Any], nn.Module, Path], Any]]] = {
    "LoRA-FA": (
        "peft.optimizers.lorafa",
        "create_lorafa_optimizer",
        lambda tool, model, _: tool(model, r=4, lora_alpha=8, lr=1e-3),
    ),
    "Riemannian": (
        "peft.optimizers.riemannian",
        "create_riemannian_optimizer",
        lambda tool, model, _: tool(model, torch.optim.SGD, lr=1e-3),
    ),
    "loftq": (
        "peft.utils.loftq_utils",
        "replace_lora_weights_loftq",
        lambda tool, model, folder: tool(model, model_path=str(folder / "model.safetensors")),
    ),
    "compiled hot-swapping": (
        "peft.utils.hotswap",
        "prepare_model_for_compiled_hotswap",
        lambda tool, model, _: tool(model, target_rank=8),
    ),
    "reduce_intruder_dimension": (
        "peft.tuners.lora.intruders",
        "reduce_intruder_dimension",
        lambda tool, model, _: tool(model, logging_sink=None),
    ),
}


def state(model: nn.Module) -> dict[str, Any]:
    return {n: (p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}


@pytest.mark.parametrize("mixer", ["learned", "butterfly"])
@pytest.mark.parametrize("what", REFUSED)
def test_a_tool_that_would_drop_the_mixer_is_refused_and_changes_nothing(
    trained: Trained, tmp_path: Path, what: str, mixer: str
) -> None:
    module, name, call = REFUSED[what]
    try:
        tool = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"this peft has no {name}")
    model = trained(mixer=mixer)
    before = state(model)
    with pytest.raises(AdapterError, match=what):
        call(tool, model, tmp_path)
    after = state(model)
    assert list(before) == list(after)
    assert all(torch.equal(p, after[n][0]) and grad == after[n][1] for n, (p, grad) in before.items())
    assert list(model.peft_config) == ["default"]


EARLIER = """
import importlib, sys, torch
names = {names!r}
tools = {{}}
for module, name in names:
    try:
        tools[name] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pass
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model
assert not any(m.startswith("moslora_xtuner") for m in sys.modules)
plain = get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 6)), LoraConfig(r=2, target_modules=["0"]))
from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import AdapterError
calls = {{
    "create_lorafa_optimizer": lambda t, m: t(m, r=2, lora_alpha=8, lr=1e-3),
    "create_riemannian_optimizer": lambda t, m: t(model=m, optimizer_cls=torch.optim.SGD, lr=1e-3),
    "replace_lora_weights_loftq": lambda t, m: t(m, model_path="nowhere.safetensors"),
    "prepare_model_for_compiled_hotswap": lambda t, m: t(m, target_rank=8),
    "reduce_intruder_dimension": lambda t, m: t(m, logging_sink=None),
    "hotswap_adapter_from_state_dict": lambda t, m: t(m, {{}}, "default", LoraConfig(r=2)),
}}
for name, tool in tools.items():
    for mixer in ("learned", "butterfly"):
        config = MosLoraConfig(r=2, target_modules=["0"], mixer=mixer)
        try:
            calls[name](tool, get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 6)), config))
        except AdapterError:
            continue
        raise SystemExit(f"{{name}} went through with mixer={{mixer!r}}")
try:
    plain.add_adapter("mixed", MosLoraConfig(r=2, target_modules=["0"]))
except AdapterError:
    print(len(tools), "refused")
"""


def test_names_imported_before_this_package_are_guarded_too(plain_python: Callable[[str], Any]) -> None:
    names = [(module, name) for module, name, _ in REFUSED.values()]
    names.append(("peft.utils.hotswap", "hotswap_adapter_from_state_dict"))
    run = plain_python(EARLIER.format(names=names))
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split()[-1] == "refused"
    assert int(run.stdout.split()[0]) >= 4


@pytest.mark.parametrize("what", ["LoRA-FA", "Riemannian"])
def test_an_optimiser_for_plain_lora_is_made_beside_an_inactive_mixer(trained: Trained, what: str) -> None:
    module, name, call = REFUSED[what]
    try:
        tool = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"this peft has no {name}")
    model = trained()
    model.add_adapter("plain", LoraConfig(r=4, target_modules=["q_proj"]))
    model.set_adapter("plain")
    assert isinstance(call(tool, model, Path()), torch.optim.Optimizer)


SWAPS: list[dict[str, Any]] = [
    {"mixer_init": "orthogonal"},
    {"mixer_init": "orthogonal", "freeze_mixer": True},
    {"mixer": "butterfly"},
    {"mixer": "identity"},
    {"use_rslora": True},
]


@pytest.mark.parametrize("settings", SWAPS)
def test_hot_swapping_the_same_kind_gives_the_other_adapter(
    trained: Trained, llama: Llama, logits: Logits, tmp_path: Path, settings: dict[str, Any]
) -> None:
    other = trained(seed=4, **settings)
    other.save_pretrained(str(tmp_path), save_embedding_layers=False)
    model = trained(**settings)
    assert not torch.equal(logits(model), logits(other))
    hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
    assert torch.equal(logits(model), logits(other))
    assert model.training == other.training


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"mixer": "butterfly"}, {}),
        ({}, {"mixer": "butterfly"}),
        ({"mixer": "butterfly"}, {"mixer": "identity"}),
        ({"mixer": "identity"}, {"mixer": "butterfly"}),
        ({}, {"r": 2}),
        ({}, {"r": 8}),
        ({"mixer": "butterfly"}, {"mixer": "butterfly", "r": 2}),
        ({"mixer": "butterfly"}, None),
        (None, {"mixer": "butterfly"}),
        (None, {}),
    ],
)
def test_hot_swapping_another_kind_is_refused_and_changes_nothing(
    trained: Trained,
    llama: Llama,
    logits: Logits,
    tmp_path: Path,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
) -> None:
    def build(settings: dict[str, Any] | None, seed: int) -> PeftModel:
        if settings is not None:
            return trained(seed=seed, **settings)
        targets = trained().peft_config["default"].target_modules
        return get_peft_model(llama(), LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))

    build(new, 4).save_pretrained(str(tmp_path), save_embedding_layers=False)
    model = build(old, 1).eval()
    wanted = logits(model)
    with pytest.raises(AdapterError, match="hot-swapping keeps the mixer"):
        hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")
    assert torch.equal(logits(model), wanted)


def test_tuners_that_would_drop_the_mixer_are_stopped(llama: Llama) -> None:
    config = MosLoraConfig(r=4, target_modules=["q_proj"])
    with pytest.raises(AdapterError, match="would drop it"):
        get_peft_model(llama(), copy.deepcopy(config), mixed=True)
    with pytest.raises(AdapterError, match="would drop it"):
        LoraModel(llama(), config, "default")


@pytest.mark.parametrize("mixed", [True, False])
def test_a_tuner_that_has_plain_adapters_already_is_stopped_too(llama: Llama, mixed: bool) -> None:
    plain = LoraConfig(r=4, target_modules=["q_proj"])
    if mixed:
        model = get_peft_model(llama(), plain, mixed=True)
    else:
        model = PeftModel(llama(), plain)
        model.base_model.__class__ = LoraModel  # as one that was made before this package was imported
    with pytest.raises(AdapterError, match="would drop it"):
        model.add_adapter("mixed", MosLoraConfig(r=4, target_modules=["q_proj"]))
    assert "mixed" not in model.peft_config


def test_an_adapter_cannot_lose_its_mixer_by_being_made_anew(trained: Trained) -> None:
    """EVA calls update_layer so; the adapter would keep a mixer of another rank."""
    model = trained()
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    with pytest.raises(AdapterError, match="cannot be made anew"):
        layer.update_layer("default", 2, lora_alpha=2)


def test_an_arrow_router_beside_a_mixer_is_refused(llama: Llama) -> None:
    try:
        from peft.tuners.lora.config import ArrowConfig
    except ImportError:
        pytest.skip("this peft has no Arrow router")
    router = LoraConfig(r=4, target_modules=["q_proj"], arrow_config=ArrowConfig(top_k=1))
    model = get_peft_model(llama(), MosLoraConfig(r=4, target_modules=["q_proj"]), adapter_name="task_0")
    with pytest.raises(AdapterError, match="Arrow"):
        model.add_adapter("arrow_router", router)


def test_the_conversion_to_lora_is_of_the_mixed_delta(saved: Callable[..., Any], llama: Llama, tmp_path: Path) -> None:
    convert = pytest.importorskip("peft.tuners.lora.conversion", reason="peft up to 0.18 converts nothing")
    for settings in ({}, {"mixer": "butterfly"}):
        model, folder = saved(**settings)
        folded = PeftModel.from_pretrained(llama(), str(fold_adapter(folder, tmp_path / f"folded{len(settings)}")))
        _, found = convert.convert_to_lora(model, rank=4)
        _, wanted = convert.convert_to_lora(folded, rank=4)
        assert len(found) == 28
        for name in (name for name in found if "lora_B" in name):
            other = name.replace("lora_B", "lora_A")
            delta, expected = found[name] @ found[other], wanted[name] @ wanted[other]
            assert float((delta - expected).abs().max() / expected.abs().max()) < 1e-5


def test_registering_again_changes_nothing(llama: Llama) -> None:
    before = dict(PEFT_TYPE_TO_TUNER_MAPPING)
    code = prepare_model_for_compiled_hotswap.__kwdefaults__["_stock"].__code__
    register()
    register()
    assert before == PEFT_TYPE_TO_TUNER_MAPPING
    assert prepare_model_for_compiled_hotswap.__kwdefaults__["_stock"].__code__ is code
    model = get_peft_model(llama(), MosLoraConfig(r=2, target_modules=["q_proj"]))
    assert model.peft_config["default"].mixer == "learned"
