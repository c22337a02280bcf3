"""What one process does with one chunk of records: read, judge, look at the images, tokenise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..images.check import examine
from ..images.seen import Ledger, Row, ledger_file
from ..problem_kinds import FAULTS, Kind
from ..reading.problems import Problem
from ..reading.records import Record, picture_places, read_record, record_name
from ..reading.sources import Broken, Chunk, Entry, Source
from ..tokens.chat_templates import Loss, Template
from ..tokens.schema import Rows, encode_rows
from ..tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX, MAX_LENGTH, Encoder, Tokens, has_control, tokenise

CHARACTERS_PER_TOKEN = 4
"""Of English, with the vocabularies of LLaMA-3 and InternLM2; used where no tokenizer is given."""


@dataclass(frozen=True)
class Tokenising:
    """How records become tokens.

    Attributes:
        encoder: the tokenizer.
        template: the chat template.
        max_length: tokens a record may have, its image's mark counting as one.
        keep: whether the rows are wanted, or only what they would be.
        loss: where it is; the template's own when not given.
    """

    encoder: Encoder
    template: Template
    max_length: int
    keep: bool
    loss: Loss | None = None


@dataclass(frozen=True)
class Rules:
    """What records are held against.

    Attributes:
        sources: all inputs; a job names one by its place here.
        images: the folder that image paths start from.
        decode: whether every image is decoded.
        max_images: images a record may have.
        max_length: tokens a record may have; guessed from its characters where `tokens` is None.
        tokens: how to tokenise.
        ledger: what is known of images from before.
    """

    sources: tuple[Source, ...]
    images: Path
    decode: bool = True
    max_images: int = 1
    max_length: int = MAX_LENGTH
    tokens: Tokenising | None = None
    ledger: Path | None = None

    def remembering(self) -> Rules:
        """The same, with what is known of the folder's images from before."""
        return replace(self, ledger=ledger_file(self.images)) if self.decode else self


@dataclass
class Examined:
    """What came of a chunk.

    Attributes:
        source: the place of its source.
        chunk: the chunk.
        records: how many it held, sound or not.
        bad: those with a fault.
        text_only: sound ones without an image.
        names: position, byte and id of every record with an id.
        by_folder: records by the first folder of their image, '' without one.
        missing: those whose image is not there.
        problems: in the order of the records.
        learnt: looks at images, for the ledger.
        rows: the store's rows.
        truncated: records in `rows` that were cut.
        systems: records in `rows` by their system prompt, '' without one.
    """

    source: int
    chunk: Chunk
    records: int = 0
    bad: int = 0
    text_only: int = 0
    names: list[tuple[int, int | None, str]] = field(default_factory=list)
    by_folder: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    learnt: list[Row] = field(default_factory=list)
    rows: Rows | None = None
    truncated: int = 0
    systems: Counter[str] = field(default_factory=Counter)


def too_deep(raw: Any) -> Broken:
    """What stands for a record that Python can read but not walk through."""
    return Broken(Kind.BROKEN_JSON, "nested too deeply", record_name(raw))


def first_folder(raw: dict[str, Any]) -> str:
    """The first folder of a record's first image as it is written; '.' for none, '' without an image."""
    image = next((place.value for place in picture_places(raw)), None)
    if not isinstance(image, str):
        return ""
    return image.split("/")[0] if "/" in image.strip("/") else "."


class Examiner:
    """Examines chunks by the same rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.ledger = Ledger(rules.ledger) if rules.ledger is not None else None

    def __call__(self, job: tuple[int, Chunk]) -> Examined:
        """Everything about the chunk's records; nothing in them makes it raise."""
        place, chunk = job
        source = self.rules.sources[place]
        made = Examined(place, chunk)
        sound: list[tuple[Entry, Record]] = []
        for entry in source.reader.read(chunk):
            made.records += entry.lost
            record, problems = self.judge(entry, source.name)
            if isinstance(entry.raw, dict):
                if (name := record_name(entry.raw)) != "?":
                    made.names.append((entry.position, entry.byte, name))
                folder = first_folder(entry.raw)
                made.by_folder[folder] += 1
                made.missing[folder] += any(problem.kind == Kind.MISSING_IMAGE for problem in problems)
            if record is not None:
                sound.append((entry, record))
            made.bad += entry.lost and any(problem.fault for problem in problems)
            made.problems += problems
        rows = self._tokenised(sound, source, made)
        made.text_only = sum(not record.images for _, record in rows)
        made.problems.sort(key=lambda problem: problem.position)
        made.learnt = self.ledger.taken() if self.ledger is not None else []
        return made

    def judge(self, entry: Entry, source: str) -> tuple[Record | None, list[Problem]]:
        """One record, if it is sound, and all that is to be said about it and its images."""
        at = entry.byte if entry.error_at is None else entry.error_at
        if isinstance(entry.raw, Broken):
            return None, [Problem(entry.raw.kind, entry.raw.record, entry.position, entry.raw.detail, at, source)]
        try:
            record, problems = read_record(
                entry.raw, entry.position, byte=at, source=source, max_images=self.rules.max_images
            )
        except RecursionError:
            return self.judge(replace(entry, raw=too_deep(entry.raw)), source)
        if record is None:
            return None, problems
        if self.rules.decode:
            findings = [f for name in record.images for f in examine(self.rules.images, name, self.ledger)]
            problems += [Problem(kind, record.id, entry.position, detail, at, source) for kind, detail in findings]
        return (None if any(problem.fault for problem in problems) else record), problems

    def _tokenised(
        self, sound: list[tuple[Entry, Record]], source: Source, made: Examined
    ) -> list[tuple[Entry, Record]]:
        """The records that stay sound once their length is known."""
        how = self.rules.tokens
        if how is None:
            for entry, record in sound:
                characters = len(record.system) + sum(len(text) for turn in record.turns for text in turn)
                if characters > CHARACTERS_PER_TOKEN * self.rules.max_length:
                    guess = f"{characters} characters, about {characters // CHARACTERS_PER_TOKEN} tokens"
                    self._say(made, Kind.OVER_LONG_TEXT, entry, record, source, f"{guess} (--model counts them)")
            return sound
        kept: list[tuple[Entry, Record, Tokens, bool]] = []
        for (entry, record), (ids, labels) in zip(
            sound, tokenise([record for _, record in sound], how.encoder, how.template, how.loss), strict=True
        ):
            if has_control(record, how.encoder):
                self._say(made, Kind.CONTROL_TOKEN, entry, record, source, "in its words, encoded as text")
            cut = len(ids) > how.max_length
            if cut:
                self._say(
                    made, Kind.OVER_LONG_TEXT, entry, record, source, f"{len(ids)} tokens, cut at {how.max_length}"
                )
                ids, labels = ids[: how.max_length], labels[: how.max_length]
            if ids.count(IMAGE_TOKEN_INDEX) < len(record.images):
                self._say(made, Kind.IMAGE_CUT_OFF, entry, record, source, f"cut at {how.max_length} before its image")
            # A row's first token is never predicted; alone in a batch such a record's loss would be nan.
            elif all(label == IGNORE_INDEX for label in labels[1:]):
                self._say(made, Kind.NO_ANSWER_LEFT, entry, record, source, f"nothing to learn in {len(ids)} tokens")
            else:
                kept.append((entry, record, (ids, labels), cut))
        if how.keep and sound:
            copies = source.copies(made.chunk.first, made.records)
            taken = [row for row in kept for _ in range(copies[row[0].position - made.chunk.first])]
            made.truncated = sum(cut for *_, cut in taken)
            made.systems = Counter(record.system for _, record, *_ in taken)
            made.rows = encode_rows([(record, tokens) for _, record, tokens, _ in taken])
        return [(entry, record) for entry, record, *_ in kept]

    def _say(self, made: Examined, kind: Kind, entry: Entry, record: Record, source: Source, detail: str) -> None:
        made.problems.append(Problem(kind, record.id, entry.position, detail, entry.byte, source.name))
        made.bad += kind in FAULTS
