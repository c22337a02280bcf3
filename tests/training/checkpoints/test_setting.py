"""What of a run may not change between its start and its resume, each by name and with both values."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.recipes.catalogue import resolve_config
from moslora_xtuner.training.checkpoints.setting import differences, require_same, setting_of

CHANGES = [
    ("train_dataloader.batch_size", 7), ("randomness.seed", 5), ("optim_wrapper.optimizer.lr", 1e-5),
    ("optim_wrapper.optimizer.weight_decay", 0.5), ("optim_wrapper.clip_grad.max_norm", 9), ("train_cfg.max_epochs", 3),
    ("train_cfg.loss_mean", "global_batch"), ("train_cfg.max_tokens", 99), ("model.llm_lora.lora_alpha", 99),
    ("model.llm_lora.r", 3), ("model.llm_lora.lora_dropout", 0.5), ("model.visual_encoder_lora.mixer_init", "identity"),
    ("train_dataloader.dataset.template", "internlm2_chat"), ("param_scheduler.warmup_ratio", 0.5),
    ("train_dataloader.sampler.per_device_batch_size", 3), ("model.freeze_llm", False),
]  # fmt: skip


def config(**options: object) -> Config:
    made = Config.fromfile(resolve_config("digits_moslora"), import_custom_modules=False)
    made.merge_from_dict(options)
    return made


@pytest.mark.parametrize(("key", "value"), CHANGES)
def test_each_change_is_named_with_both_values(key: str, value: object) -> None:
    before = setting_of(config(), 2, 1)
    found = differences(before, setting_of(config(**{key: value}), 2, 1))
    assert len(found) == 1
    assert found[0].endswith(f", is {value!r}")
    with pytest.raises(ConfigError, match=r"is of a run with other settings: .* was .*, is .*load_from=iter_4.pth"):
        require_same(before, setting_of(config(**{key: value}), 2, 1), Path("iter_4.pth"))


def test_processes_and_accumulation() -> None:
    before = setting_of(config(), 2, 1)
    assert differences(before, setting_of(config(), 1, 1)) == ["processes was 2, is 1"]
    assert differences(before, setting_of(config(), 2, 4)) == ["accumulation was 1, is 4"]


def test_what_changes_no_loss_may_change() -> None:
    before = setting_of(config(), 2, 1)
    later = config(**{"default_hooks.checkpoint.interval": 3, "train_dataloader.num_workers": 4, "log_level": "ERROR"})
    assert differences(before, setting_of(later, 2, 1)) == []
    require_same(before, setting_of(later, 2, 1), Path("iter_4.pth"))


def test_a_store_is_known_by_its_records(tiny_data: Path, tmp_path: Path) -> None:
    import shutil

    moved = shutil.copytree(tiny_data / "store", tmp_path / "store")
    key = "train_dataloader.dataset.store"
    one, two = (setting_of(config(**{key: str(path)}), 1, 1) for path in (tiny_data / "store", moved))
    assert one == two
    records = moved / "records.arrow"
    records.write_bytes(records.read_bytes()[:-1] + b"X")
    three = setting_of(config(**{key: str(moved)}), 1, 1)
    assert [name.split()[0] for name in differences(one, three)] == ["data"]
