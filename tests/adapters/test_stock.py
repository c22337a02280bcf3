"""Plain LoRA through every function of PEFT: after this package's import each does what it did before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SCRIPT = """
import copy, hashlib, importlib, inspect, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
import torch
import peft
from peft import LoraConfig, LoHaConfig, PeftMixedModel, PeftModel, get_peft_model, inject_adapter_in_model
from transformers import LlamaConfig, LlamaForCausalLM
IDS = torch.tensor([[1, 5, 9, 2, 7, 3], [3, 3, 8, 40, 22, 17]])
TARGETS = ["q_proj", "v_proj", "down_proj"]


def base():
    torch.manual_seed(0)
    sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **sizes)).eval()


def fill(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name or "hada_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def plain(seed=1, **settings):
    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings})
    return fill(get_peft_model(base(), config), seed)


def folder(model, **settings):
    place = tempfile.mkdtemp()
    model.save_pretrained(place, save_embedding_layers=False, **settings)
    return place


def out(model, **settings):
    with torch.no_grad():
        return model(input_ids=IDS, **settings).logits


def show(name, tensor):
    print(name, hashlib.sha256(tensor.detach().contiguous().double().numpy().tobytes()).hexdigest()[:16], flush=True)


def case(function):
    torch.manual_seed(9)
    try:
        function()
    except Exception as error:
        print(function.__name__, type(error).__name__, str(error)[:60].replace(tempfile.gettempdir(), ""), flush=True)


@case
def layers():
    model = plain(use_dora=True)
    print(sorted({type(m).__module__ + "." + type(m).__qualname__ for m in model.base_model.model.modules()}))
    show("dora", out(model))


@case
def names():
    for name in ("lora_AB", "lora_A", "lora_B", "x.y", "default_0"):
        try:
            model = base()
            model = PeftModel.from_pretrained(model, folder(plain()), adapter_name=name)
            show("named " + name, out(model))
            again = get_peft_model(base(), LoraConfig(r=4, target_modules=TARGETS), adapter_name=name)
            print(again.load_state_dict(fill(again).state_dict()))
            show("saved " + name, out(PeftModel.from_pretrained(base(), os.path.join(folder(again), name))))
        except Exception as error:
            print(name, type(error).__name__)


@case
def mixed():
    model = get_peft_model(base(), LoraConfig(r=4, target_modules=TARGETS), mixed=True)
    model.add_adapter("loha", LoHaConfig(r=4, target_modules=TARGETS))
    model.load_adapter(folder(plain(3)), "more")
    model.set_adapter(["default", "loha", "more"])
    show("mixed", out(fill(model)))
    show("mixed, loaded", out(PeftMixedModel.from_pretrained(base(), folder(plain(4)))))


@case
def several():
    model = plain()
    model.load_adapter(folder(plain(5)), "other")
    model.add_adapter("third", LoraConfig(r=6, target_modules=["q_proj"]))
    show("rows", out(model, adapter_names=["default", "other"]))
    for how in ("cat", "svd", "linear", "ties", "dare_linear", "ties_svd", "magnitude_prune"):
        torch.manual_seed(2)
        model.add_weighted_adapter(["default", "other"], [0.5, 0.7], how, combination_type=how, density=0.5)
        model.set_adapter(how)
        show(how, out(model))
    model.delete_adapter("other")
    model.set_adapter("default")
    model.merge_adapter()
    show("merged", out(model))
    model.unmerge_adapter()
    show("for good", out(model.merge_and_unload(safe_merge=True)))


@case
def hotswap():
    from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap

    model = plain()
    hotswap_adapter(model, folder(plain(6)), "default", torch_device="cpu")
    show("hotswap", out(model))
    model = plain()
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    hotswap_adapter(model, folder(plain(6)), adapter_name="default", torch_device="cpu")
    show("prepared", out(model))
    print(inspect.signature(hotswap_adapter), inspect.signature(prepare_model_for_compiled_hotswap))


def trained(make):
    model = plain().train()
    optimizer = make(model)
    for _ in range(3):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return out(model.eval())


@case
def lorafa():
    from peft.optimizers import create_lorafa_optimizer

    show("lora-fa", trained(lambda m: create_lorafa_optimizer(model=m, r=4, lora_alpha=8, lr=1e-2)))


@case
def riemannian():
    from peft.optimizers import create_riemannian_optimizer

    show("riemannian", trained(lambda m: create_riemannian_optimizer(m, torch.optim.SGD, lr=1e-2)))


@case
def loraplus():
    from peft.optimizers import create_loraplus_optimizer

    make = lambda m: create_loraplus_optimizer(m, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4)
    show("lora+", trained(make))


@case
def intruders():
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    model = plain()
    reduce_intruder_dimension(model, logging_sink=None)
    show("intruders", out(model))


@case
def conversion():
    from peft import convert_to_lora

    _, state = convert_to_lora(plain(), rank=2)
    show("converted", torch.cat([tensor.flatten() for _, tensor in sorted(state.items())]))


@case
def loftq():
    peft.replace_lora_weights_loftq(plain(), model_path="nowhere.safetensors")


@case
def xlora():
    from peft import XLoraConfig

    paths = {"0": folder(plain(1)), "1": folder(plain(2))}
    model = base()
    model.config.use_cache = False
    settings = dict(hidden_size=32, xlora_depth=2, adapters=paths, task_type="CAUSAL_LM")
    show("x-lora", out(get_peft_model(model, XLoraConfig(**settings)).eval()))


@case
def injected():
    show("injected", out(fill(inject_adapter_in_model(LoraConfig(r=4, target_modules=TARGETS), base()))))
    model = base()
    model.add_adapter(LoraConfig(r=4, target_modules=TARGETS))
    show("transformers", out(fill(model)))
    model = base()
    model.load_adapter(folder(plain(7)))
    show("transformers loads", out(model))


@case
def low_memory():
    show("meta", out(PeftModel.from_pretrained(base(), folder(plain(8)), low_cpu_mem_usage=True)))


@case
def other_layers():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Conv1d(3, 5, 1), torch.nn.Linear(4, 2))
    model = fill(get_peft_model(model, LoraConfig(r=2, target_modules=["0", "1", "2"])))
    show("embedding, convolution", model(torch.tensor([[1, 2, 3]])))
    twin = copy.deepcopy(model)
    show("copy", twin.unload()(torch.tensor([[1, 2, 3]])))


@case
def refused():
    os.chdir(tempfile.mkdtemp())
    os.mkdir("empty")
    PeftModel.from_pretrained(base(), "empty")
"""


def test_plain_lora_is_what_it_was(stock_python: Callable[[str], Any], plain_python: Callable[[str], Any]) -> None:
    stock = stock_python(SCRIPT)
    ours = plain_python("import moslora_xtuner.adapters\n" + SCRIPT)
    assert stock.returncode == 0, stock.stderr
    assert ours.returncode == 0, ours.stderr
    wanted, found = stock.stdout.splitlines(), ours.stdout.splitlines()
    assert len(wanted) > 30
    assert found == wanted


@pytest.mark.parametrize("name", ["lora_AB", "lora_B", "mixer"])
def test_a_mixed_adapter_may_have_any_name(
    saved: Callable[..., Any], llama: Callable[..., Any], logits: Callable[..., Any], name: str
) -> None:
    import torch
    from peft import PeftModel

    model, folder = saved()
    loaded = PeftModel.from_pretrained(llama(), str(folder), adapter_name=name).eval()
    assert torch.equal(logits(loaded), logits(model))
