"""What of a run may not change between its start and its resume, each by name and with both values."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from moslora_xtuner.data.tokens.store import Table
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
    assert differences(one, three)[0].split()[0] == "data"


def test_held_out_records_and_how_often_they_are_looked_at(tiny_data: Path, tmp_path: Path) -> None:
    """They decide which adapter is kept."""
    import shutil

    hook = "default_hooks.validation"
    store = {"train_dataloader.dataset.store": str(tiny_data / "store"), f"{hook}.data": str(tiny_data / "store")}
    before = setting_of(config(**store), 1, 1)
    without = setting_of(config(**{**store, f"{hook}.data": "none"}), 1, 1)
    assert {name.split()[0] for name in differences(before, without)} == {
        "validation.data", "validation.interval", "validation.pictures",
    }  # fmt: skip
    assert not any("validation" in name for name in without)
    moved = shutil.copytree(tiny_data / "store", tmp_path / "store")
    there = {**store, f"{hook}.data": str(moved)}
    assert differences(before, setting_of(config(**there), 1, 1)) == []
    records = moved / "records.arrow"
    records.write_bytes(records.read_bytes()[:-1] + b"X")
    assert differences(before, setting_of(config(**there), 1, 1))[0].startswith("validation.data was ")
    for key in ("default_hooks.checkpoint.interval", f"{hook}.interval"):
        assert differences(before, setting_of(config(**store, **{key: 3}), 1, 1)) == [
            "validation.interval was -1, is 3"
        ]
    # From the best to the last one may change; the other way, what the checkpoint holds decides (validation/hook.py).
    assert differences(before, setting_of(config(**store, **{f"{hook}.keep": "best"}), 1, 1)) == []
    source = tmp_path / "held_out.json"
    source.write_text("[]")
    files = []
    for text in ("[]", "[ ]"):
        source.write_text(text)
        files.append(setting_of(config(**{**store, f"{hook}.data": str(source)}), 1, 1))
    assert [name.split()[0] for name in differences(*files)] == ["validation.data"]


def test_a_picture_that_was_replaced_is_another_data(tiny_data: Path, tmp_path: Path) -> None:
    import shutil

    images = shutil.copytree(tiny_data / "images", tmp_path / "images")
    keys = {"train_dataloader.dataset.store": str(tiny_data / "store")}

    def now() -> dict[str, object]:
        return setting_of(config(**keys, **{"train_dataloader.dataset.image_folder": str(images)}), 1, 1)

    before = now()
    keys_there = {**keys, "train_dataloader.dataset.image_folder": str(tiny_data / "images")}
    assert differences(before, setting_of(config(**keys_there), 1, 1)) == []  # the same pictures elsewhere
    name = Table(tiny_data / "store" / "records.arrow").pictures()[0]
    content = bytearray((images / name).read_bytes())
    content[-20] ^= 1  # of the same size
    (images / name).write_bytes(content)
    assert [found.split()[0] for found in differences(before, now())] == ["pictures"]
    (images / name).unlink()
    assert [found.split()[0] for found in differences(before, now())] == ["pictures"]
    # A checkpoint of a release that did not look at pictures is not refused for that.
    assert differences({key: value for key, value in before.items() if key != "pictures"}, now()) == []


def test_a_base_is_known_by_its_content(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(tiny_base / "llm", tmp_path / "llm")
    key = "model.llm.pretrained_model_name_or_path"
    visual = {"model.visual_encoder.pretrained_model_name_or_path": str(tiny_base / "visual_encoder")}
    one = setting_of(config(**visual, **{key: str(tiny_base / "llm")}), 1, 1)
    assert one["base.llm"]["weights"]
    assert one["base.visual_encoder"]["weights"]
    assert differences(one, setting_of(config(**visual, **{key: str(copy)}), 1, 1)) == []
    other = tmp_path / "other"
    shutil.copytree(copy, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    found = differences(one, setting_of(config(**visual, **{key: str(other)}), 1, 1))
    assert [text.split()[0] for text in found] == ["base.llm"]
