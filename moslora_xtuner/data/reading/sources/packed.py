"""Files that are called .json, or stand where one should, and are something else."""

from __future__ import annotations

from pathlib import Path

from ....errors import DataError

_UNPACK = "unpack it, and give the JSON that is in it"
_SAVE = "give a folder that `datasets.load_dataset({!r}, data_files=...)['train'].save_to_disk(FOLDER)` wrote"
_PACKED = {
    b"PAR1": ("a Parquet file", _SAVE.format("parquet")),
    b"ARROW1": ("an Arrow file", _SAVE.format("arrow")),
    b"\xff\xff\xff\xff": ("an Arrow stream", _SAVE.format("arrow")),
    b"\x1f\x8b": ("a gzip file", _UNPACK),
    b"PK\x03\x04": ("a zip file", _UNPACK),
    b"BZh": ("a bzip2 file", _UNPACK),
    b"\xfd7zXZ": ("an xz file", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd file", _UNPACK),
    b"7z\xbc\xaf": ("a 7z file", _UNPACK),
    b"SQLite format 3": ("an SQLite database", "export its table as JSON Lines"),
}
"""How a file begins that is no JSON, what it is, and what to do."""


def packed(path: Path) -> tuple[str, str] | None:
    """What a file is that holds no JSON as text, and what to do with it; None for all others. Raises DataError."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0, 2)
            if file.tell() > 262 and not head.lstrip().startswith((b"[", b"{")):
                file.seek(257)
                if file.read(5) == b"ustar":
                    return "a tar file", _UNPACK
    except OSError as fault:
        raise DataError(f"cannot read {path} ({fault.strerror})") from fault
    return next((said for magic, said in _PACKED.items() if head.startswith(magic)), None)
