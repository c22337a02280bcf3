"""Everything that can be wrong with a record or its image: the kinds, and what to do about each.

A fault would lose the record, crash the training or teach nonsense: `check` fails, `prepare` and training stop, unless
a budget for bad records is given. A remark is counted and shown, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

FAULTS = {
    "broken JSON": "mend the text at this byte; --fix leaves out what cannot be read",
    "not UTF-8": "convert the record's text to UTF-8",
    "not an object": "every record is a JSON object",
    "repeated key": "JSON readers keep the last of two equal keys: delete one",
    "missing id": "give the record an id; --fix does",
    "bad text": "take the lone surrogate (half of a character) out of the text; --fix does",
    "image is null": "leave the key out for a text-only record; --fix does",
    "bad image": "the image is one path, or a list of paths",
    "too many images": "raise --max-images if the model takes several images a record",
    "image outside the folder": "image paths are relative and stay inside the image folder; --fix mends what can be",
    "missing image": "download it, or correct the path; --fix finds it under another extension",
    "unreadable image": "replace the file",
    "truncated image": "download the file again",
    "zero-size image": "download the file again",
    "decompression bomb": "shrink the picture, or leave its record out",
    "16-bit image": "convert it to 8 bits: as it is, nearly all of it would turn white",
    "empty conversation": "a record needs a question and an answer",
    "bad message": "every message has a role and a text",
    "unknown role": "roles are human and gpt (or user, assistant, system and the like)",
    "turn order": "human and gpt alternate, human first, gpt last; --fix cuts what stands alone at the ends",
    "image token": "as many <image> in the human's words as images; --fix mends one image's mark",
    "no answer left": "raise --max-length: cut there, the record has nothing to learn",
    "image cut off": "raise --max-length: cut there, the record has lost its image",
}
REMARKS = {
    "duplicate id": "LLaVA's own mix names records by image, so this is usual; every record is kept",
    "over-long text": "tokens beyond --max-length are cut",
    "wrong extension": "read by its content, as the OCR-VQA .jpg files that are GIF or PNG",
    "animated image": "its first frame is used",
    "CMYK image": "converted to RGB without a colour profile",
    "palette image": "converted to RGB",
    "image with transparency": "transparency is dropped, what lies beneath shows",
}
EXAMPLES = 20
"""Problems of each kind that are kept in memory, for tables."""


@dataclass(frozen=True)
class Problem:
    """Something about one record.

    Attributes:
        kind: a key of FAULTS or REMARKS.
        record: the record's id, `?` without one.
        position: the record's place in its source, from 0.
        detail: what was found.
        byte: where the record (or the error in it) stands in the file; None where the source is no text file.
        source: name of the file or folder, where there are several.
    """

    kind: str
    record: str
    position: int
    detail: str
    byte: int | None = None
    source: str = ""

    @property
    def fault(self) -> bool:
        """Whether the record cannot be trained on as it is."""
        return self.kind in FAULTS

    def __str__(self) -> str:
        at = "" if self.byte is None else f", byte {self.byte}"
        of = f"{self.source} " if self.source else ""
        return f"{of}record {self.position} (id {self.record}{at}): {self.detail}"

    def as_json(self) -> dict[str, Any]:
        """For a machine: one line of problems.jsonl."""
        return asdict(self)


@dataclass
class Tally:
    """Problems counted by kind, with the first few of each; flat in memory whatever the data's size."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Problem]] = field(default_factory=dict)

    def add(self, problems: Iterable[Problem]) -> None:
        """Count, and keep the first of each kind."""
        for problem in problems:
            self.counts[problem.kind] += 1
            kept = self.examples.setdefault(problem.kind, [])
            if len(kept) < EXAMPLES:
                kept.append(problem)

    def kinds(self, fault: bool) -> list[tuple[str, int]]:
        """The faults, or the remarks, most frequent first."""
        known = FAULTS if fault else REMARKS
        return [(kind, count) for kind, count in self.counts.most_common() if kind in known]
