"""The projector's weights: from a folder, a file or XTuner's .pth, and told in full where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llava import build

from moslora_xtuner.errors import ConfigError


def test_pretrained_pth_is_refused(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match="projector_weights"):
        build(tiny_base, tuned=False, pretrained_pth="x.pth")


def test_projector_weights_arrive(tiny_base: Path) -> None:
    wanted = load_file(tiny_base / "projector" / "model.safetensors")
    found = build(tiny_base, tuned=False).projector.state_dict()
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in wanted.items()}


def test_reads_an_xtuner_pth(tiny_base: Path, tmp_path: Path) -> None:
    """The released projectors are `.pth` files with the prefix `projector.`, bare or in `state_dict`."""
    weights = {name: value + 1 for name, value in load_file(tiny_base / "projector" / "model.safetensors").items()}
    content = {f"projector.{name}": value for name, value in weights.items()}
    for form in (content, {"state_dict": {**content, "llm.other": torch.ones(1)}}):
        torch.save(form, tmp_path / "p.pth")
        found = build(tiny_base, tuned=False, projector_weights=str(tmp_path / "p.pth")).projector.state_dict()
        assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_a_projector_that_does_not_fit_is_listed(tiny_base: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_base / "projector" / "model.safetensors")
    cases = {
        "missing.safetensors": ({n: v for n, v in weights.items() if n != "model.2.bias"}, "missing .*model.2.bias"),
        "extra.safetensors": ({**weights, "model.4.bias": torch.ones(2)}, "unknown .*model.4.bias"),
        "shape.safetensors": ({**weights, "model.0.bias": torch.ones(5)}, r"shapes .*model.0.bias \(5,\) for \(32,\)"),
    }
    for name, (content, message) in cases.items():
        save_file(content, tmp_path / name)
        with pytest.raises(ConfigError, match=message):
            build(tiny_base, tuned=False, projector_weights=str(tmp_path / name))
    torch.save({"llm.weight": torch.ones(2)}, tmp_path / "none.pth")
    with pytest.raises(ConfigError, match=r"missing .*model.0.weight"):
        build(tiny_base, tuned=False, projector_weights=str(tmp_path / "none.pth"))
    with pytest.raises(ConfigError, match="no projector weights at"):
        build(tiny_base, tuned=False, projector_weights=str(tmp_path))
