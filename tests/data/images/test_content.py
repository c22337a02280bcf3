"""Two sets of pictures are told apart by their names, sizes and, of some, bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.data.images import content
from moslora_xtuner.data.images.content import pictures_sha256


def pictures(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    names = [f"{number:04}.bin" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes([number % 251]) * (1 + number % 7))
    return names


def test_names_sizes_and_bytes_count_and_order_does_not(tmp_path: Path) -> None:
    names = pictures(tmp_path / "a", 20)
    root = tmp_path / "a"
    same = pictures_sha256(root, names)
    assert pictures(tmp_path / "b", 20) == names
    assert pictures_sha256(tmp_path / "b", names[::-1] + names[:3]) == same
    assert pictures_sha256(root, names[:-1]) != same
    (root / names[5]).write_bytes((root / names[5]).read_bytes()[:-1] + b"\xff")
    assert pictures_sha256(root, names) != same
    (root / names[5]).unlink()
    gone = pictures_sha256(root, names)
    assert gone not in (same, pictures_sha256(root, names[:5] + names[6:]))


def test_of_many_the_sizes_of_more_and_the_bytes_of_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SIZES", 11)
    monkeypatch.setattr(content, "CONTENTS", 3)
    names = pictures(tmp_path / "a", 101)
    same = pictures_sha256(tmp_path / "a", names)
    for place, other in ((0, True), (50, True), (100, True), (10, False), (7, False)):  # the bytes of 0, 50 and 100
        file = tmp_path / "a" / names[place]
        before = file.read_bytes()
        file.write_bytes(b"\xfe" * len(before))
        assert (pictures_sha256(tmp_path / "a", names) != same) is other
        file.write_bytes(before + b"x")  # the sizes of every tenth
        assert (pictures_sha256(tmp_path / "a", names) != same) is (place % 10 == 0)
        file.write_bytes(before)
    assert pictures_sha256(tmp_path / "a", names) == same
    assert pictures_sha256(tmp_path / "a", []) != same
