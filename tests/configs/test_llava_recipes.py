"""The recipes for large models, each file itself: trained on small stand-ins, exported, and compared in pairs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import standins
from mmengine.config import Config
from places import CONFIGS
from safetensors.torch import load_file
from train_in_turn import Run, train_in_turn

from moslora_xtuner.export.merge import export
from moslora_xtuner.training.launch import train

LLAVA = sorted(path.stem for path in CONFIGS.glob("llava_*.py"))
STEPS = 20
PICTURE = 56
"""Pixels: 16 places of the language model instead of 576, which a CPU takes long for."""
LOGGED = (
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "default_hooks.logger.interval=1",
    "log_processor.window_size=1",
    "train_cfg.max_epochs=None",
    f"train_cfg.max_iters={STEPS}",
)
ADAPTERS = {"llm_lora", "visual_encoder_lora"}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py").to_dict()
    return found


def losses(run: Path) -> list[float]:
    (file,) = run.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def runs(llava_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every recipe trained for 20 steps by XTuner's own program, one after the other in one process."""
    out = tmp_path_factory.mktemp("recipes")
    few = standins.make_clip(out / "clip", PICTURE)
    options = (
        "train_dataloader.batch_size=4",
        "train_dataloader.sampler.per_device_batch_size=4",
        f"train_dataloader.collate_fn.image_tokens={(PICTURE // 14) ** 2}",
        "optim_wrapper.accumulative_counts=1",
        *LOGGED,
    )
    # Stage 1 has another sampler, without records of a device.
    stage1 = [option for option in options if "per_device_batch_size" not in option]
    runs = [Run(name, out / name, stage1 if name.endswith("pretrain") else options) for name in LLAVA]
    train_in_turn(runs, out, {**llava_environment, "CLIP_L_336": str(few)})
    return out


def check_run(name: str, run: Path, steps: int) -> None:
    """The loss falls, and what is left behind is what the recipe trains."""
    config = load(name)
    seen = losses(run)
    assert len(seen) == steps
    assert mean(seen[-7:]) < mean(seen[:7]) - 0.05, seen
    facts = json.loads((run / "adapters" / "training.json").read_text())
    quantised = "quantization_config" in config["model"]["llm"]
    assert facts["bits"] == {"llm": 4 if quantised else None, "visual_encoder": None, "projector": None}
    assert facts["steps"] == steps
    adapters = {part for part in ("llm", "visual_encoder") if (run / "adapters" / part).is_dir()}
    assert adapters == ({"llm", "visual_encoder"} if config["model"].keys() >= ADAPTERS else set())
    for part in adapters:
        asked = config["model"][f"{part}_lora"]
        made = json.loads((run / "adapters" / part / "adapter_config.json").read_text())
        wanted = (asked.get("mixer"), asked.get("mixer_init", "kaiming_uniform" if asked.get("mixer") else None))
        if asked.get("mixer") != "butterfly":  # which has no start to choose
            assert (made.get("mixer"), made.get("mixer_init")) == wanted
        weights = load_file(run / "adapters" / part / "adapter_model.safetensors")
        assert any(bool(value.any()) for key, value in weights.items() if "lora_B" in key)
        assert any("lora_AB" in key for key in weights) is (asked.get("mixer") == "learned")
        if part == "visual_encoder":  # the features are taken before the last of three layers
            assert {key.split("layers.")[1][0] for key in weights} == {"0", "1"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LLAVA)
def test_trains_20_steps_and_exports(name: str, runs: Path, tmp_path: Path) -> None:
    check_run(name, runs / name, STEPS)
    made = export(runs / name, tmp_path / "export")
    assert json.loads((made / "config.json").read_text())["architectures"] == ["LlavaForConditionalGeneration"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accumulation"), [("llava_llama3_moslora", 2), ("llava_internlm2_qmoslora", 1)])
def test_launched_on_two_processes_with_576_places_a_picture(
    name: str, accumulation: int, llava_environment: dict[str, str], tmp_path: Path
) -> None:
    """`moslora train` with DeepSpeed, as it is typed: two processes with two records each."""
    options = [
        "train_dataloader.batch_size=2",
        "train_dataloader.sampler.per_device_batch_size=4",
        f"optim_wrapper.accumulative_counts={accumulation}",
        *LOGGED,
    ]
    run = train(name, processes=2, work_dir=tmp_path / "run", cfg_options=options, environment=llava_environment)
    check_run(name, run, STEPS)


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
