"""A benchmark of one's own: a TSV under its own name, of which one says what kind of questions it holds.

index  question                       A    B      image_path     answer
1      What colour is the left cup?   red  green  cups/left.jpg  B
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import UsageError

from .checking import images, rows
from .checking.finding import Finding, Weight
from .checking.look import ordered
from .frame import frame_of
from .prompts import is_blank, options
from .registry import BENCHMARKS, Benchmark, Kind
from .tsv import Tsv

KINDS: dict[str, tuple[Kind, str, str | None, int]] = {
    "choice": ("mcq", "ImageMCQDataset", "gpt-4o-mini", 64),
    "yes-no": ("yesno", "ImageYORNDataset", "gpt-4o-mini", 64),
    "short-answer": ("vqa", "ImageVQADataset", None, 64),
    "open": ("open", "ImageVQADataset", "gpt-4-turbo", 512),
}
"""What each kind is here: how it is asked, VLMEvalKit's class, whom VLMEvalKit would have judge, the longest answer."""


def read(word: str, instruct: bool = False) -> Benchmark | None:
    """FILE.tsv:KIND as a benchmark named FILE; None for a word that names no TSV.

    choice: options in columns A, B, ..., the answer a letter; read by VLMEvalKit's rules, else by the judge.
    yes-no: the answer Yes or No, likewise. short-answer: a word, or a JSON list of words of which each is right;
    compared after VLMEvalKit's normalisation for TextVQA. open: a judge grades the answer from 0 to 1, as for MM-Vet.

    Args:
        word: as on the command line.
        instruct: whether LLaVA-1.5's request for a letter or a word is added to each question.

    Raises:
        UsageError: there is no such kind, or the name is one of VLMEvalKit's.
    """
    file, _, kind = word.rpartition(":") if not word.endswith(".tsv") else (word, "", "")
    if not file.endswith(".tsv"):
        return None
    if kind not in KINDS:
        said = f"{kind!r} is no kind of questions" if kind else "say what kind of questions it holds"
        raise UsageError(f"{word}: {said}: {', '.join(f'{file}:{name}' for name in KINDS)}")
    path = Path(file)
    name = path.stem
    if name in BENCHMARKS:
        raise UsageError(f"{file} has the name of VLMEvalKit's {name}: ask that as {name}, or name your own otherwise")
    its_kind, owner, judge, longest = KINDS[kind]
    return Benchmark(
        name, name, name, "other", its_kind, owner, judge=judge, needs_judge=kind == "open", max_new_tokens=longest,
        table=path.absolute(), instruction=instruct,
    )  # fmt: skip


def right_answers(cell: str) -> list[str]:
    """What is right for a short answer: the cell, or each of its JSON list. Raises ValueError."""
    if not cell.lstrip().startswith("["):
        return [cell]
    found = parse_json(cell)
    if not isinstance(found, list) or not found or not all(isinstance(item, str) and item.strip() for item in found):
        raise ValueError("a list of answers holds texts alone")
    return found


def numbered(table: Tsv) -> Tsv:
    """The table with a column `index`; rows are numbered from 0 where it has none."""
    if "index" in table.columns:
        return table
    index = [str(number) for number in range(len(table))]
    ragged = {row: count + 1 for row, count in table.ragged.items()}
    cells = {"index": index, **table.cells}
    return replace(table, columns=("index", *table.columns), cells=cells, ragged=ragged)


def check(benchmark: Benchmark, table: Tsv) -> Iterator[Finding]:
    """Everything that is wrong with the table: rows that cannot be asked, or never be answered rightly."""
    called = rows.names(table)
    lacking = [] if "question" in table.columns else ["question"]
    if not {"image", "image_path"} & set(table.columns):
        lacking.append("image_path (a file beside the table) or image (base64)")
    if lacking:
        has = ", ".join(table.columns)
        yield Finding(None, "", "", f"has no column {' and no column '.join(lacking)}. It has: {has}")
        return
    found = list(rows.indices(benchmark, table, called))
    found += [item for item in rows.questions(table, called) if item.weight is Weight.FAULT]
    if benchmark.kind == "mcq":  # the others' names VLMEvalKit does not sort
        found += rows.groups(benchmark, table, called)
    found += images.check(table, called, lambda name: _file(name, table.path.parent))
    if _has_answers(table):
        for place, row in enumerate(table.rows("image")):
            try:
                _answer(benchmark.kind, row)
            except ValueError as fault:
                found.append(Finding(place, called[place], "answer", str(fault)))
    yield from ordered(rows.form(table, called), found, table)


def frame(benchmark: Benchmark, table: Tsv) -> Any:
    """The table, looked at, as VLMEvalKit's classes take it: pictures as base64, answers in its spelling."""
    if "image" not in table.columns:
        empty = [""] * len(table)
        table = replace(table, columns=(*table.columns, "image"), cells={**table.cells, "image": empty})
    found = frame_of(table, lambda name: _file(name, table.path.parent), words=True)
    if _has_answers(table):
        found["answer"] = [_answer(benchmark.kind, row) for row in table.rows("image")]
    return found.drop(columns="image_path", errors="ignore")


def _has_answers(table: Tsv) -> bool:
    return any(table.column("answer"))


def _file(name: str, folder: Path) -> Path:
    """The file of an `image_path`. It stays inside the table's folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is not inside {folder}")
    if not path.is_file():
        raise ValueError(f"there is no picture {path}")
    return path


def _answer(kind: str, row: Mapping[str, Any]) -> str:
    """The right answer as VLMEvalKit compares it."""
    if is_blank(row.get("answer")):
        raise ValueError("no answer")
    said = str(row["answer"]).strip()
    if kind == "mcq":
        offered = options(row)
        if len(offered) < 2 or list(offered) != list(string.ascii_uppercase[: len(offered)]):
            raise ValueError(f"options stand in columns A, B, ... without a gap, two at least; here {list(offered)}")
        if said.upper() not in offered:
            raise ValueError(f"the answer {said!r} is none of {', '.join(offered)}")
        return said.upper()
    if kind == "yesno":
        if said.lower() not in ("yes", "no"):
            raise ValueError(f"the answer {said!r} is neither Yes nor No")
        return said.capitalize()
    if kind == "vqa":
        try:
            right_answers(said)
        except ValueError as fault:
            raise ValueError(f"the answer {said!r} is no JSON list of texts ({fault})") from fault
    return said
