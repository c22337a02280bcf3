"""What can be wrong with a directory of two files, and that both doors, loading and folding, say so and do nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moslora_xtuner.adapters import fold_adapter
from moslora_xtuner.errors import AdapterError

Saved = Callable[..., tuple[PeftModel, Path]]
Llama = Callable[..., nn.Module]
State = dict[str, Tensor]

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
A, B, M = (f"{LAYER}.lora_{part}.weight" for part in ("A", "B", "AB"))
NAN, INF = float("nan"), float("inf")

BOTH: dict[str, tuple[Callable[[State], object], str]] = {
    "A missing": (lambda s: s.pop(A), "lora_A"),
    "B missing": (lambda s: s.pop(B), "lora_B"),
    "M missing": (lambda s: s.pop(M), "lora_AB|mixer"),
    "NaN in A": (lambda s: s[A].view(-1)[3:4].fill_(NAN), "lora_A.* not finite"),
    "inf in B": (lambda s: s[B].view(-1)[0:1].fill_(INF), "lora_B.* not finite"),
    "-inf in M": (lambda s: s[M].view(-1)[0:1].fill_(-INF), "lora_AB.* not finite"),
    "NaN in float8": (lambda s: s.update({M: torch.full((4, 4), NAN).to(torch.float8_e4m3fn)}), "not finite"),
    "A of another rank": (lambda s: s.update({A: torch.ones(3, 32)}), r"lora_A\S* is \(3, 32\)"),
    "B of another rank": (lambda s: s.update({B: torch.ones(32, 5)}), r"lora_B\S* is \(32, 5\)"),
    "M is no square": (lambda s: s.update({M: torch.ones(4, 3)}), r"lora_AB\S* is \(4, 3\)"),
    "A is a vector": (lambda s: s.update({A: torch.ones(4)}), r"\(4,\)"),
    "A holds whole numbers": (lambda s: s.update({A: torch.ones(4, 32, dtype=torch.int64)}), "int64, not floating"),
    "M is empty": (lambda s: s.update({M: torch.ones(0, 0)}), r"is empty|\(0, 0\)"),
    "a layer too many": (
        lambda s: s.update({A.replace("q_", "z_"): s[A] + 1, B.replace("q_", "z_"): s[B] + 1}),
        r"\.z_",
    ),
    "a mixer too many": (lambda s: s.update({M.replace("q_proj", "z"): torch.eye(4)}), r"\.z"),
    "an unknown part": (lambda s: s.update({f"{LAYER}.lora_C.weight": torch.eye(4)}), "lora_C"),
    "a magnitude": (lambda s: s.update({f"{LAYER}.lora_magnitude_vector": torch.ones(32)}), "magnitude"),
    "a bias of B": (lambda s: s.update({f"{LAYER}.lora_B.bias": torch.ones(32)}), r"lora_B\S*\.bias"),
    "a weight of the base": (lambda s: s.update({f"{LAYER}.base_layer.weight": torch.ones(32, 32)}), "base_layer"),
    "a weight without a place": (lambda s: s.update({"optimizer.step": torch.ones(1)}), r"optimizer\.step"),
    "the names of two adapters": (lambda s: s.update({A.replace(".weight", ".x.weight"): s[A] + 1}), r"\.x|twice"),
    "the adapter's name in all": (lambda s: rename(s, lambda k: k.replace(".weight", ".x.weight")), "'x'|missing"),
    "no tensor at all": (lambda s: s.clear(), "no adapter weights|missing"),
    "torn names": (lambda s: rename(s, lambda k: k.replace(".lora_A.weight", ".lora_Aeight")), "lora_A"),
    "no prefix": (lambda s: rename(s, lambda k: k.removeprefix("base_model.model.")), "base_model|missing"),
}
CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "r = 0": ({"r": 0}, "r=0"),
    "r = -8": ({"r": -8}, "r=-8"),
    "r = NaN": ({"r": NAN}, "r=nan"),
    "r = '8'": ({"r": "8"}, "r='8'"),
    "r = 'eight'": ({"r": "eight"}, "r='eight'"),
    "r = true": ({"r": True}, "r=True"),
    "r = 4.0": ({"r": 4.0}, "r=4.0"),
    "r = null": ({"r": None}, "r=None"),
    "another rank": ({"r": 8}, r"rank 8|not \(8, 32\)"),
    "alpha = NaN": ({"lora_alpha": NAN}, "lora_alpha=nan"),
    "alpha = '16'": ({"lora_alpha": "16"}, "lora_alpha='16'"),
    "alpha = true": ({"lora_alpha": True}, "lora_alpha=True"),
    "alpha = inf": ({"lora_alpha": INF}, "lora_alpha=inf"),
    "a pattern's rank": ({"rank_pattern": {"q_proj": 2}}, r"q_proj.*(rank 2|not \(2, )"),
    "a pattern's rank is none": ({"rank_pattern": {"q_proj": -2}}, r"rank_pattern\['q_proj'\]=-2"),
    "a broken pattern of ranks": ({"rank_pattern": {"(q_proj": 4}}, "rank_pattern has a broken pattern"),
    "a pattern of alpha NaN": ({"alpha_pattern": {"q_proj": NAN}}, "alpha_pattern"),
    "patterns as a list": ({"rank_pattern": ["q_proj"]}, "rank_pattern=.* is not a table"),
    "a broken target": ({"target_modules": "(q_proj"}, "target_modules has a broken pattern"),
    "targets are numbers": ({"target_modules": [1, 2]}, "target_modules"),
    "other targets": ({"target_modules": ["k_proj"]}, "target_modules names|no place for"),
    "a flag as text": ({"use_rslora": "false"}, "use_rslora='false'"),
    "a mixer of none": ({"mixer": "butterfly", "mixer_init": None}, "lora_AB"),
    "an identity mixer": ({"mixer": "identity", "mixer_init": None}, "lora_AB"),
    "an unknown mixer": ({"mixer": "dense"}, "dense"),
    "a mixer's start": ({"mixer_init": "xavier"}, "xavier"),
    "DoRA": ({"use_dora": True}, "magnitude"),
    "a module to save": ({"modules_to_save": ["lm_head"]}, "lm_head"),
    "bias": ({"bias": "some"}, "bias='some'"),
    "modules in a text": ({"modules_to_save": "lm_head"}, "modules_to_save='lm_head'"),
    "layers in a text": ({"layers_to_transform": "all"}, "layers_to_transform='all'"),
    "dropout": ({"lora_dropout": 2}, "lora_dropout=2"),
    "lower case": ({"peft_type": "moslora"}, "'MOSLORA'"),
}


def rename(state: State, change: Callable[[str], str]) -> None:
    renamed = {change(key): value for key, value in state.items()}
    state.clear()
    state.update(renamed)


def rewrite(path: Path, **fields: object) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def refused(llama: Llama, path: Path, words: str) -> None:
    """Neither loading nor folding takes the directory; the model, and the disk, are as before."""
    base = llama()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    modules = {name: (type(module), module.training) for name, module in base.named_modules()}
    trainable = {name: p.requires_grad for name, p in base.named_parameters()}
    random = torch.random.get_rng_state()
    for load in (
        lambda: PeftModel.from_pretrained(base, str(path)),
        lambda: base.load_adapter(str(path)),
    ):
        with pytest.raises(AdapterError, match=words) as told:
            load()
        assert "\n" not in str(told.value)
        assert {name: (type(module), module.training) for name, module in base.named_modules()} == modules
        assert {name: p.requires_grad for name, p in base.named_parameters()} == trainable
        assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
        assert not getattr(base, "peft_config", {})
        assert torch.equal(torch.random.get_rng_state(), random)
    with pytest.raises(AdapterError, match=words) as told:
        fold_adapter(path, path.parent / "folded")
    assert "\n" not in str(told.value)
    assert not (path.parent / "folded").exists()


@pytest.mark.parametrize("case", BOTH)
def test_wrong_weights(saved: Saved, llama: Llama, case: str) -> None:
    change, words = BOTH[case]
    _, path = saved(target_modules=["q_proj"])
    state = load_file(path / "adapter_model.safetensors")
    change(state)
    save_file(state, path / "adapter_model.safetensors")
    refused(llama, path, words)


@pytest.mark.parametrize("case", CONFIGS)
def test_wrong_configs(saved: Saved, llama: Llama, case: str) -> None:
    fields, words = CONFIGS[case]
    _, path = saved(target_modules=["q_proj"])
    rewrite(path, **fields)
    refused(llama, path, words)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated weights": (lambda p: cut(p / "adapter_model.safetensors", 900), "cannot be read"),
    "an empty file": (lambda p: cut(p / "adapter_model.safetensors", 0), "cannot be read"),
    "text for weights": (lambda p: (p / "adapter_model.safetensors").write_text("sorry"), "cannot be read"),
    "a sharded file": (
        lambda p: (p / "adapter_model.safetensors").rename(p / "adapter_model-00001-of-00002.safetensors"),
        "00001-of-00002.*one whole file",
    ),
    "a .bin of something else": (lambda p: as_bin(p, {"epoch": 3}), "no named tensor"),
    "a .bin of a list": (lambda p: as_bin(p, [1]), "no table of tensors"),
    "a .bin of an object": (lambda p: as_bin(p, Path("x")), "cannot be read"),
    "a config cut short": (lambda p: cut(p / "adapter_config.json", 40), "not valid JSON"),
    "a config of another code page": (lambda p: (p / "adapter_config.json").write_bytes(b'{"a": "\xff"}'), "JSON"),
    "a config in a list": (lambda p: (p / "adapter_config.json").write_text("[1]"), "no JSON object"),
    "a config too deep": (lambda p: (p / "adapter_config.json").write_text("[" * 100_000), "not valid JSON"),
    "a key twice": (lambda p: (p / "adapter_config.json").write_text('{"r": 1, "r": 2}'), "twice"),
}


def cut(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])


def as_bin(path: Path, content: object) -> None:
    (path / "adapter_model.safetensors").unlink()
    torch.save(content, path / "adapter_model.bin")


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(saved: Saved, llama: Llama, case: str) -> None:
    change, words = FILES[case]
    _, path = saved(target_modules=["q_proj"])
    change(path)
    refused(llama, path, words)


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules", "rank_pattern", "modules_to_save"])
def test_a_pattern_without_end_is_ended(
    saved: Saved, llama: Llama, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    endless = r"((\w|\.)+)+!"
    monkeypatch.setattr("moslora_xtuner.adapters.directory.patterns.SECONDS", 1.0)
    _, path = saved(target_modules=["q_proj"])
    value: object = {endless: 4} if field == "rank_pattern" else [endless] if field == "modules_to_save" else endless
    rewrite(path, **{field: value})
    begun = time.monotonic()
    refused(llama, path, f"{field}: matching .* takes more than 1 s")
    assert time.monotonic() - begun < 15


def test_a_list_of_names_without_end_is_refused(saved: Saved, llama: Llama) -> None:
    _, path = saved(target_modules=["q_proj"])
    rewrite(path, target_modules=[f"m{number}" for number in range(200_000)])
    refused(llama, path, "target_modules has 200000 entries")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float64])
def test_weights_of_other_types_load_and_fold(saved: Saved, llama: Llama, tmp_path: Path, dtype: torch.dtype) -> None:
    _, path = saved(target_modules=["q_proj"])
    state = {key: value.to(dtype) for key, value in load_file(path / "adapter_model.safetensors").items()}
    save_file(state, path / "adapter_model.safetensors")
    PeftModel.from_pretrained(llama(), str(path))
    folded = load_file(fold_adapter(path, tmp_path / "folded") / "adapter_model.safetensors")
    wanted = state[B].double() @ state[M].double()
    assert folded[B].dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert torch.allclose(folded[B].double(), wanted, rtol=1e-6, atol=1e-12)


def test_the_authors_dora_with_a_mixer_is_refused(saved: Saved, llama: Llama) -> None:
    _, path = saved(target_modules=["q_proj"], use_dora=True)
    rewrite(path, peft_type="LORA", lora_use_mixer=True)
    refused(llama, path, "lora_use_mixer beside use_dora has two meanings")


PLAIN: dict[str, tuple[Callable[[State], object], dict[str, Any], str]] = {
    "A missing": (lambda s: s.pop(A), {}, "no lora_A"),
    "inf in A": (lambda s: s[A].view(-1)[0:1].fill_(INF), {}, "not finite"),
    "another rank": (lambda s: None, {"r": 4, "rank_pattern": {"q_proj": 8}}, "rank 8"),
    "r = 'eight'": (lambda s: None, {"r": "eight"}, "r='eight'"),
    "lower case": (lambda s: None, {"peft_type": "lora"}, "'lora', not MOSLORA or LORA"),
    "left over": (lambda s: s.update({"x.weight": torch.ones(2)}), {}, r"x\.weight"),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_lora_directories_are_held_to_the_same(llama: Llama, tmp_path: Path, case: str) -> None:
    change, fields, words = PLAIN[case]
    get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(str(tmp_path / "plain"))
    state = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    change(state)
    save_file(state, tmp_path / "plain" / "adapter_model.safetensors")
    rewrite(tmp_path / "plain", **fields)
    with pytest.raises(AdapterError, match=words):
        fold_adapter(tmp_path / "plain", tmp_path / "out")
    assert not (tmp_path / "out").exists()
