"""The recipes for large models, each file itself: trained on small stand-ins, exported, and compared in pairs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from mmengine.config import Config
from places import CONFIGS
from safetensors.torch import load_file

from moslora_xtuner.export.merge import export
from moslora_xtuner.training.launch import train

LLAVA = sorted(path.stem for path in CONFIGS.glob("llava_*.py"))
STEPS = 30
# Two processes with two records each: 120 records are 30 batches.
SMALL = (
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "default_hooks.logger.interval=1",
    "log_processor.window_size=1",
)
ADAPTERS = {"llm_lora", "visual_encoder_lora"}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py").to_dict()
    return found


def losses(run: Path) -> list[float]:
    (file,) = run.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("name", LLAVA)
def test_trains_30_steps_and_exports(name: str, llava_environment: dict[str, str], tmp_path: Path) -> None:
    config = load(name)
    accumulation = 2 if name == "llava_llama3_moslora" else 1
    options = [*SMALL, f"optim_wrapper.accumulative_counts={accumulation}"]
    options.append(f"train_cfg.max_epochs={accumulation}")
    if "per_device_batch_size" in config["train_dataloader"]["sampler"]:
        options.append("train_dataloader.sampler.per_device_batch_size=4")
    run = train(name, processes=2, work_dir=tmp_path / "run", cfg_options=options, environment=llava_environment)
    seen = losses(run)
    assert len(seen) == STEPS * accumulation
    assert mean(seen[-10:]) < mean(seen[:10]) - 0.05, seen
    facts = json.loads((run / "adapters" / "training.json").read_text())
    quantised = "quantization_config" in config["model"]["llm"]
    assert facts["bits"] == {"llm": 4 if quantised else None, "visual_encoder": None, "projector": None}
    adapters = {part for part in ("llm", "visual_encoder") if (run / "adapters" / part).is_dir()}
    assert adapters == ({"llm", "visual_encoder"} if config["model"].keys() >= ADAPTERS else set())
    if adapters:
        weights = load_file(run / "adapters" / "visual_encoder" / "adapter_model.safetensors")
        # The features are taken before the last of three layers.
        assert {key.split("layers.")[1][0] for key in weights} == {"0", "1"}
        assert any(bool(value.any()) for key, value in weights.items() if "lora_B" in key)
    made = export(run, tmp_path / "export")
    assert json.loads((made / "config.json").read_text())["architectures"] == ["LlavaForConditionalGeneration"]


PAIRS = [
    ("llava_llama3_lora", "llava_llama3_moslora", {"type", "mixer", "mixer_init"}),
    ("llava_llama3_lora", "llava_llama3_ts_mixing", {"type", "mixer"}),
    ("llava_llama3_moslora", "llava_llama3_moslora_kaiming", {"mixer_init"}),
    ("llava_internlm2_qlora", "llava_internlm2_qmoslora", {"type", "mixer", "mixer_init"}),
    ("llava_internlm2_qmoslora", "llava_internlm2_qmoslora_kaiming", {"mixer_init"}),
]


@pytest.mark.parametrize(("first", "second", "fields"), PAIRS)
def test_a_pair_differs_in_the_adapters_fields_alone(first: str, second: str, fields: set[str]) -> None:
    one, other = load(first), load(second)
    for part in ADAPTERS:
        a, b = one["model"].pop(part), other["model"].pop(part)
        assert {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)} == fields
    assert one == other


def test_llama3_has_the_values_of_table_8() -> None:
    config = load("llava_llama3_moslora")
    model = config["model"]
    assert (model["llm_lora"]["r"], model["visual_encoder_lora"]["r"]) == (64, 64)
    assert (model["llm_lora"]["lora_alpha"], model["visual_encoder_lora"]["lora_alpha"]) == (128, 16)
    assert set(model["llm_lora"]["target_modules"]) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj",
    }  # fmt: skip
    assert config["train_dataloader"]["batch_size"] == 8
    assert config["optim_wrapper"]["accumulative_counts"] == 2
    assert config["optim_wrapper"]["optimizer"]["lr"] == 2e-5
    assert config["train_cfg"]["max_epochs"] == 1
    assert config["model"]["visual_select_layer"] == -2


def test_internlm2_has_the_values_of_table_8() -> None:
    config = load("llava_internlm2_qmoslora")
    model = config["model"]
    assert (model["llm_lora"]["r"], model["visual_encoder_lora"]["r"]) == (512, 64)
    assert (model["llm_lora"]["lora_alpha"], model["visual_encoder_lora"]["lora_alpha"]) == (256, 16)
    assert set(model["llm_lora"]["target_modules"]) == {"wqkv", "wo", "w1", "w2", "w3"}
    assert config["train_dataloader"]["batch_size"] == 16
    assert config["optim_wrapper"]["accumulative_counts"] == 1
    assert config["optim_wrapper"]["optimizer"]["lr"] == 2e-5
    quantised = model["llm"]["quantization_config"]
    assert (quantised["bnb_4bit_quant_type"], quantised["bnb_4bit_use_double_quant"]) == ("nf4", True)


def test_one_card_has_the_same_global_batch() -> None:
    def global_batch(name: str, processes: int) -> int:
        config = load(name)
        batch = config["train_dataloader"]["batch_size"] * config["optim_wrapper"]["accumulative_counts"]
        assert config["train_dataloader"]["sampler"]["per_device_batch_size"] == batch
        return int(batch * processes)

    assert global_batch("llava_llama3_moslora", 4) == global_batch("llava_llama3_qmoslora", 1) == 64
