"""--epochs and --batch-size change a config in every place that must follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.plan.setting import read_setting
from moslora_xtuner.training.sizes import sizes


def test_the_sampler_follows_the_batch() -> None:
    assert sizes("digits_moslora") == []
    changes = sizes("llava_llama3_moslora", epochs=3, batch_size=4)
    setting = read_setting("llava_llama3_moslora", options=changes)
    assert (setting.batch_size, setting.accumulation) == (4, 2)
    assert setting.config["train_dataloader"]["sampler"]["per_device_batch_size"] == 8
    assert setting.config["train_cfg"]["max_epochs"] == 3


def test_a_config_that_counts_otherwise(tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text("train_cfg = dict(max_iters=5, max_tokens=99)\ntrain_dataloader = dict(sampler=dict())\n")
    with pytest.raises(ConfigError, match="counts in steps"):
        sizes(str(config), epochs=2)
    with pytest.raises(ConfigError, match="by tokens"):
        sizes(str(config), batch_size=2)
