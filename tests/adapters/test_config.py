"""MosLoraConfig: what it accepts, what it writes, and how XTuner builds it."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
import pytest
from peft import LoraConfig, PeftConfig, PeftType

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import AdapterError

OTHER_LAYERS: dict[str, object] = {
    "layer_replication": [(0, 2)],
    "megatron_config": {"hidden_size": 4},
    "target_parameters": ["experts.w"],
    "use_qalora": True,
    "alora_invocation_tokens": [1, 2],
    "arrow_config": {"top_k": 1},
    "use_bdlora": {"nblocks": 2},
    "kasa_config": {"beta": 1.0},
    "velora_config": {"scale": 1.0},
    "monteclora_config": {},
}
"""Settings that give LoraConfig's layers another function; releases of PEFT have some of them."""


def test_in_memory_lora_on_disk_moslora() -> None:
    config = MosLoraConfig(r=4)
    assert config.peft_type is PeftType.LORA
    assert config.to_dict()["peft_type"] == "MOSLORA"
    assert (config.mixer, config.mixer_init, config.freeze_mixer) == ("learned", "kaiming_uniform", False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mixer": "dense"}, "dense"),
        ({"mixer_init": "xavier"}, "xavier"),
        ({"mixer_init": "zero"}, "allow_zero_mixer"),
        ({"mixer": "butterfly", "mixer_init": "orthogonal"}, "mixer_init"),
        ({"mixer": "identity", "freeze_mixer": True}, "freeze_mixer"),
        ({"mixer": "butterfly", "r": 7}, "r=7"),
        ({"mixer": "butterfly", "r": 8, "rank_pattern": {"q_proj": 5}}, "q_proj=5"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "orthogonal"}, "orthogonal"),
    ],
)
def test_contradictions_are_refused_by_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        MosLoraConfig(**settings)


@pytest.mark.parametrize("name", OTHER_LAYERS)
def test_layers_of_another_function_are_refused(name: str) -> None:
    if name not in {field.name for field in fields(LoraConfig)}:
        pytest.skip(f"peft {peft.__version__} has no {name}")
    with pytest.raises(AdapterError, match=f"{name} has no mixed layer"):
        MosLoraConfig(**{name: OTHER_LAYERS[name]})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(AdapterError, match=r"allow_zero_mixer.*pissa.*layer_replication"):
        MosLoraConfig(mixer_init="zero", init_lora_weights="pissa", layer_replication=[(0, 2)])


def test_zero_warns_that_nothing_can_learn() -> None:
    with pytest.warns(UserWarning, match="nothing can be learned"):
        MosLoraConfig(mixer_init="zero", allow_zero_mixer=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MosLoraConfig(mixer_init="orthogonal")
    assert caught == []


@pytest.mark.parametrize(
    "settings",
    [
        {"mixer_init": "orthogonal", "freeze_mixer": True},
        {"mixer": "butterfly", "target_modules": "all-linear"},
        {"mixer": "identity", "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    ],
)
def test_a_round_trip_through_the_file_keeps_every_field(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = MosLoraConfig(r=6, lora_alpha=5, **{"target_modules": ["q_proj"], **settings})
    config.save_pretrained(str(tmp_path))
    for reader in (MosLoraConfig, PeftConfig):
        assert reader.from_pretrained(str(tmp_path)) == config
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_file_of_a_newer_release_keeps_what_is_known_and_tells_the_rest(tmp_path: Path) -> None:
    config = MosLoraConfig(r=6, lora_alpha=5, mixer="butterfly", target_modules=["q_proj"])
    config.save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "future": 3, "unused": None}))
    with pytest.warns(UserWarning, match="future"):
        assert PeftConfig.from_pretrained(str(tmp_path)) == config


def test_the_plain_config_of_the_folded_adapter() -> None:
    config = MosLoraConfig(r=6, lora_alpha=5, use_rslora=True, target_modules=["q_proj"])
    plain = config.to_lora_config()
    assert type(plain) is LoraConfig
    assert plain == LoraConfig(r=6, lora_alpha=5, use_rslora=True, target_modules=["q_proj"])
