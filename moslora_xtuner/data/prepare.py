"""Tokenise once: from LLaVA's JSON and its images to a token store that every rank maps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import RecordBatchFileWriter

from ..errors import DataError
from ..hashing import tokenizer_hash
from ..llm.load import load_tokenizer
from ..output import atomic_folder, claim, marker
from ..progress import note
from .checking.check import Progress, check
from .checking.worker import Examined, Rules, Tokenising
from .reading.problems import Problem
from .reading.sources import Source, open_sources
from .tokens.chat_templates import Loss, fitting_template, get_template, require_special_tokens
from .tokens.store import FORMAT, KIND, MANIFEST, PROBLEMS, read_whole, table_facts, write_rows, writing
from .tokens.tokenise import Encoder


def tokenising(
    model: Path | str,
    template: str | None = None,
    max_length: int | None = None,
    keep: bool = False,
    obey_control: bool = False,
    loss: Loss | None = None,
) -> tuple[Tokenising, dict[str, Any]]:
    """How a model's data is tokenised, and the facts that a store's manifest keeps of it.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: the tokenizer lacks the template's special tokens.
        UsageError: there is no such template.
    """
    if template is not None:
        get_template(template)  # a wrong name is told before anything is loaded
    tokenizer = load_tokenizer(model)
    template = template or fitting_template(tokenizer)
    require_special_tokens(tokenizer, template)
    form = get_template(template)
    max_length = form.max_length if max_length is None else max_length
    facts = {"tokenizer": tokenizer_hash(tokenizer), "template": template, "max_length": max_length}
    if obey_control:
        facts["control_tokens"] = "obeyed"
    if (loss or form.loss) != "answer":
        facts["loss"] = loss or form.loss
    encoder = Encoder(tokenizer, obey=obey_control, plain=form.plain)
    return Tokenising(encoder, form, max_length, keep, loss), facts


def prepare(
    sources: Path | str | Sequence[Path | str],
    images: Path,
    model: Path | str,
    out: Path,
    *,
    template: str | None = None,
    max_length: int | None = None,
    loss: Loss | None = None,
    max_images: int = 1,
    skip_bad: float = 0.0,
    decode: bool = True,
    obey_control: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check the records, tokenise them and write the store; returns its manifest.

    It holds the table `records.arrow` (rows.SCHEMA: ids, labels, lengths, modality), the manifest `store.json`
    (tokenizer hash, template, sources with their sha256, counts) and `problems.jsonl` (every record left out, cut or
    remarked on). It appears whole or not at all; one made of the same files with the same settings is used again.

    Args:
        sources: `.json`, `.jsonl` or a folder of Hugging Face datasets, `PATH` or `PATH@WEIGHT`, or several.
        images: the folder that the records' image paths start from.
        model: folder or hub name of the language model, for its tokenizer.
        out: the store's folder.
        template: of the chat; by default the one whose special tokens the tokenizer has.
        max_length: text tokens a record may have, by default as the template says; longer ones are cut and counted.
        loss: on the answers alone or on all text; by default as the template says.
        max_images: images a record may have.
        skip_bad: share of the records that may be bad and are then left out.
        decode: also decode every image.
        obey_control: control tokens in the data's own text keep their meaning, as with XTuner.
        workers: processes; all cores by default.
        progress: called with the records done and about how many there are.

    Raises:
        ConfigError: no tokenizer.
        DataError: more records are bad than `skip_bad` allows, or the tokenizer lacks the template's special tokens.
        OutputError: `out` holds something else.
    """
    inputs = open_sources(sources)
    tokens, facts = tokenising(model, template, max_length, keep=True, obey_control=obey_control, loss=loss)
    settings = {"format": FORMAT, "sources": _named(inputs), **facts, "max_images": max_images}
    if marker(out) is not None and claim(out, KIND, settings) and (found := _made_before(out, skip_bad)) is not None:
        return found
    for left in sorted(out.parent.glob(f".{out.name}.partial-*")):
        note(f"note: {left} is what an interrupted run left, or another one is writing now: it can be deleted")
    rules = Rules(tuple(inputs), images, decode, max_images, tokens.max_length, tokens)
    with atomic_folder(out, KIND) as folder:
        claim(folder, KIND, settings)
        with writing(folder) as writer, (folder / PROBLEMS).open("w", encoding="utf-8") as log:
            written = _Written(writer)

            def tell(problem: Problem) -> None:
                log.write(json.dumps(problem.as_json(), ensure_ascii=False) + "\n")

            report = check(inputs, rules, workers=workers, each=written.add, problem=tell, progress=progress)
        if not report.within(skip_bad):
            raise DataError(f"{report.table()}\n{report.advice(skip_bad)}")
        if written.records == 0:
            raise DataError(f"{report.table()}\nno record is left to learn from")
        manifest = {
            **settings,
            **written.counts(),
            "read": report.records,
            "left_out": report.bad,
            "remarks": dict(report.tally.kinds(fault=False)),
            "images": "decoded" if decode else "not looked at",
            "table": table_facts(folder),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def _named(inputs: Sequence[Source]) -> list[dict[str, Any]]:
    """What the manifest says of the inputs."""
    return [{"name": Path(item.name).name, "sha256": item.reader.sha256(), "weight": item.weight} for item in inputs]


SYSTEMS = 10_000
"""Different system prompts that are counted; of so many none is that of most records."""


@dataclass
class _Written:
    """What went into the table, counted."""

    writer: RecordBatchFileWriter
    records: int = 0
    text_only: int = 0
    truncated: int = 0
    tokens: int = 0
    systems: Counter[str] = field(default_factory=Counter)

    def add(self, made: Examined) -> None:
        """Write the rows of one chunk."""
        if made.rows is not None:
            batch = write_rows(self.writer, made.rows)
            self.records += batch.num_rows
            self.text_only += int((batch["image_count"].to_numpy() == 0).sum())
            self.tokens += int(batch["length"].to_numpy().sum())
        self.truncated += made.truncated
        if len(self.systems) < SYSTEMS:
            self.systems += made.systems

    def system(self) -> str:
        """The system prompt of more than half of the records; '' when there is none such."""
        text, count = self.systems.most_common(1)[0]
        return text if 2 * count > self.records else ""

    def counts(self) -> dict[str, Any]:
        """As they stand in the manifest, the system prompt that most records carry beside them."""
        numbers = {name: getattr(self, name) for name in ("records", "text_only", "truncated", "tokens")}
        return {**numbers, "system": self.system()}


def _made_before(out: Path, skip_bad: float) -> dict[str, Any] | None:
    """The manifest of a store that stands there whole; None for one that is to be made again."""
    try:
        found, _ = read_whole(out)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        note(f"{out} is damaged ({fault}): it is made again")
        return None
    if found["left_out"] > skip_bad * found["read"]:
        raise DataError(
            f"{out} leaves out {found['left_out']} of {found['read']} records ({out / PROBLEMS} names them): "
            "allow that with --skip-bad, or mend the data and prepare another store"
        )
    return found
