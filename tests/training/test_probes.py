"""The records that a run keeps for its export: of its own data, with pictures and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPImageProcessor

from moslora_xtuner.data.dataset import TokenStore
from moslora_xtuner.errors import DataError
from moslora_xtuner.export.proof import read_probes
from moslora_xtuner.training.probes import COUNT, probes


def test_of_a_token_store(tiny_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    processor = CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder")
    store = TokenStore(str(tiny_data / "store"), str(tiny_data / "images"), processor)
    found = probes(store)
    save_file(found, tmp_path / "probes.safetensors")
    read = read_probes(tmp_path / "probes.safetensors")
    assert len(read) == COUNT
    assert [probe.pixels is None for probe in read] == [True, False, False, False]
    first = next(place for place in range(len(store)) if "pixel_values" in store[place])
    assert torch.equal(read[1].ids, torch.from_numpy(np.array(store[first]["input_ids"], dtype=np.int64)))
    assert torch.equal(read[1].pixels, store[first]["pixel_values"])
    # An answer's tokens are predicted one place before they stand.
    labels = read[1].labels
    assert all(labels[place + 1] != -100 for place in read[1].places)
    assert len(read[1].places) == int((labels[1:] != -100).sum())


class Other:
    """Of another kind, with a record whose picture is gone."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if self.broken and index == 0:
            raise DataError("gone")
        return {"input_ids": [index, 1], "labels": [-100, 1]} if self.broken else {"text": [1]}


def test_what_cannot_be_read_is_left_out() -> None:
    assert [found.tolist() for name, found in probes(Other(broken=True)).items() if "ids" in name] == [[1, 1], [2, 1]]
    assert probes(Other(broken=False)) == {}
