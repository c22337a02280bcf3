"""The real `xtuner train`, a few steps on the stand-in: plain, with ZeRO-2 on two processes, and failing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.artifacts import ADAPTERS, LLM, MANIFEST, PROJECTOR, VISUAL_ENCODER
from moslora_xtuner.training.launch import train

pytestmark = pytest.mark.slow
OPTIONS = ("train_dataloader.batch_size=4", "train_dataloader.sampler.per_device_batch_size=4")


def adapter(run: Path, part: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / ADAPTERS / part / "adapter_model.safetensors")
    return found


@pytest.mark.parametrize(
    ("config", "processes", "deepspeed"), [("digits_lora", 1, None), ("digits_moslora", 2, "zero2")]
)
def test_leaves_trained_adapters(
    config: str, processes: int, deepspeed: str | None, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    steps: list[tuple[int, int, float]] = []
    run = train(
        config,
        processes=processes,
        deepspeed=deepspeed,
        work_dir=tmp_path / "run",
        cfg_options=[*OPTIONS, "default_hooks.logger.interval=1"],
        environment={
            "DIGITS_BASE": str(tiny_base),
            "DIGITS_DATA": str(tiny_data),
            "OMP_NUM_THREADS": "1",
            "TORCH_EXTENSIONS_DIR": str(tmp_path / "compiled"),
        },
        progress=lambda *step: steps.append(step),
    )
    assert not (tmp_path / "compiled").exists()  # the first training on a machine compiles nothing
    count = 48 // (4 * processes)
    assert [step[:2] for step in steps] == [(n, count) for n in range(1, count + 1)]
    facts = json.loads((run / ADAPTERS / MANIFEST).read_text())
    assert (facts["steps"], facts["processes"], facts["batch_size"]) == (count, processes, 4)
    assert (facts["llm"], facts["template"]) == (str(tiny_base / "llm"), "llama3_chat")
    assert (facts["visual_select_layer"], facts["pad_image_to_square"]) == (-2, True)
    assert all(facts["trainable"][part] > 0 for part in (LLM, VISUAL_ENCODER, PROJECTOR))
    for part in (LLM, VISUAL_ENCODER):
        weights = adapter(run, part)
        assert any("lora_AB" in name for name in weights) == (config == "digits_moslora")
        # B starts at zero: what is not zero was trained, here and in every layer.
        assert all(w.any() for name, w in weights.items() if "lora_B" in name)
        assert not any(torch.isnan(w).any() for w in weights.values())
        kind = json.loads((run / ADAPTERS / part / "adapter_config.json").read_text())["peft_type"]
        assert kind == ("MOSLORA" if config == "digits_moslora" else "LORA")
    before = load_file(tiny_base / "projector" / "model.safetensors")
    after = load_file(run / ADAPTERS / PROJECTOR / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_missing_store_is_the_reason_of_the_failure(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no token store in") as fault:
        train(
            "digits_lora",
            processes=1,
            deepspeed=None,
            work_dir=tmp_path / "run",
            environment={"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tmp_path / "none")},
            progress=lambda *_: None,
        )
    assert "moslora data prepare" in str(fault.value)
    assert str(tmp_path / "run" / "train.log") in str(fault.value)
    assert not (tmp_path / "run" / ADAPTERS).exists()
