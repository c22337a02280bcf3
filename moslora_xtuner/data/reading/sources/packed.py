"""Files that are called .json, or stand where one should, and are something else."""

from __future__ import annotations

import re
from pathlib import Path

from ....errors import DataError

_UNPACK = "unpack it, and give the JSON that is in it"
_AGAIN = "download the data itself"
_SAVE = "give a folder that `datasets.load_dataset({!r}, data_files=...)['train'].save_to_disk(FOLDER)` wrote"
_RECORDS = "give a JSON list, or one JSON object a line, each with its list of messages"
_PACKED = {
    b"PAR1": ("a Parquet file", _SAVE.format("parquet")),
    b"PARE": ("an encrypted Parquet file", _SAVE.format("parquet")),
    b"ARROW1": ("an Arrow file", _SAVE.format("arrow")),
    b"FEA1": ("a Feather file", _RECORDS),
    b"\xff\xff\xff\xff": ("an Arrow stream", _SAVE.format("arrow")),
    b"\x1f\x8b": ("a gzip file", _UNPACK),
    b"PK\x03\x04": ("a zip file", _UNPACK),
    b"PK\x05\x06": ("an empty zip file", _AGAIN),
    b"PK\x07\x08": ("a part of a zip file", _UNPACK),
    b"BZh": ("a bzip2 file", _UNPACK),
    b"\xfd7zXZ": ("an xz file", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd file", _UNPACK),
    b"\x04\x22\x4d\x18": ("an lz4 file", _UNPACK),
    b"7z\xbc\xaf": ("a 7z file", _UNPACK),
    b"Rar!": ("a rar file", _UNPACK),
    b"SQLite format 3": ("an SQLite database", "export its table as JSON Lines"),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Word file", _RECORDS),
    b"\x89HDF": ("an HDF5 file", _RECORDS),
    b"\x93NUMPY": ("a NumPy file", _RECORDS),
    b"%PDF": ("a PDF", _RECORDS),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the data with `git lfs pull`"),
}
"""How a file begins that is no JSON, what it is, and what to do."""
_HEAD = 1 << 16
_CELL = r'(?:"[^"{}\[\]:]*"|[\w .()/-]+)'
_TABLE = re.compile(rf"\s*{_CELL}(?P<comma>[,\t;|]){_CELL}(?:(?P=comma){_CELL})*\r?(?:\n|$)(?!\s*[\[{{])")
"""The first line of a CSV, names alone; no JSON stands in the next."""


def packed(path: Path) -> tuple[str, str] | None:
    """What a file is that holds no JSON as text, and what to do with it; None for all others. Raises DataError."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as fault:
        raise DataError(f"cannot read {path} ({fault.strerror})") from fault
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
        return None
    if head[257:262] == b"ustar":
        return "a tar file", _UNPACK
    if head.startswith(b"PK\x03\x04") and b"xl/" in head:
        return "an Excel workbook", _RECORDS
    if found := next((said for magic, said in _PACKED.items() if head.startswith(magic)), None):
        return found
    text = head.decode("utf-8-sig", "replace")
    if text.lstrip()[:5].lower() in ("<html", "<!doc", "<?xml"):
        return "a web page or XML", _AGAIN
    return ("a table in text (CSV)", _RECORDS) if _TABLE.match(text) else None
