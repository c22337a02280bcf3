"""A benchmark of one's own: a TSV under its own name, of which one says what kind of questions it holds.

index  question                       A    B      image_path     answer
1      What colour is the left cup?   red  green  cups/left.jpg  B
"""

from __future__ import annotations

import base64
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import DataError, UsageError

from .prompts import is_blank, options
from .registry import BENCHMARKS, Benchmark, Kind

KINDS: dict[str, tuple[Kind, str, str | None, int]] = {
    "choice": ("mcq", "ImageMCQDataset", "gpt-4o-mini", 64),
    "yes-no": ("yesno", "ImageYORNDataset", "gpt-4o-mini", 64),
    "short-answer": ("vqa", "ImageVQADataset", None, 64),
    "open": ("open", "ImageVQADataset", "gpt-4-turbo", 512),
}
"""What each kind is here: how it is asked, VLMEvalKit's class, whom VLMEvalKit would have judge, the longest answer."""
_NAMED = 8
"""So many faults are told one by one."""


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


def load(benchmark: Benchmark) -> Any:
    """The table as VLMEvalKit's classes take it: `index`, pictures as base64 in `image`, answers in its spelling.

    Raises DataError naming each row that cannot be asked or never be answered rightly.
    """
    import pandas

    path = benchmark.table
    assert path is not None
    try:
        frame = pandas.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error
    lacking = [] if "question" in frame else ["question"]
    if not {"image", "image_path"} & set(frame):
        lacking.append("image_path (a file beside the table) or image (base64)")
    if lacking:
        raise DataError(f"{path} has no column {' and no column '.join(lacking)}. It has: {', '.join(frame)}.")
    if not len(frame):
        raise DataError(f"{path} holds no question.")
    if "index" not in frame:
        frame.insert(0, "index", [str(number) for number in range(len(frame))])
    rows: list[dict[str, Any]] = frame.to_dict("records")
    faults: list[str] = []
    seen: set[str] = set()
    has_answers = "answer" in frame and not frame["answer"].isna().all()
    pictures, answers = [], []
    for number, row in enumerate(rows):
        where = f"line {number + 2}" if is_blank(row["index"]) else f"index {row['index']}"
        problems = list(_problems(row, seen))
        picture = _tried(lambda row=row: _picture(row, path.parent), problems)  # type: ignore[misc]
        answer = _tried(lambda row=row: _answer(benchmark.kind, row), problems) if has_answers else None  # type: ignore[misc]
        faults += [f"{where}: {problem}" for problem in problems]
        pictures.append(picture)
        answers.append(answer)
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(f"{path}: {len(faults)} faults: {'; '.join(faults[:_NAMED])}{more}.")
    frame["image"] = pictures
    if has_answers:
        frame["answer"] = answers
    return frame.drop(columns="image_path", errors="ignore")


def _problems(row: Mapping[str, Any], seen: set[str]) -> Iterable[str]:
    if is_blank(row["index"]):
        yield "no index"
    elif row["index"] in seen:
        yield "this index stands there twice"
    else:
        seen.add(row["index"])
    if is_blank(row["question"]) or not str(row["question"]).strip():
        yield "no question"


def _tried(read: Callable[[], str], problems: list[str]) -> str | None:
    """What `read` gives, or None and one problem more."""
    try:
        return read()
    except (OSError, ValueError) as fault:
        problems.append(str(fault))
        return None


def _picture(row: Mapping[str, Any], folder: Path) -> str:
    """The row's picture as base64, looked at. A path stays inside the table's folder."""
    from moslora_xtuner.data.images.opening import from_bytes

    if not is_blank(row.get("image")):
        text = "".join(str(row["image"]).split())
        try:
            content = base64.b64decode(text, validate=True)
        except ValueError as fault:
            raise ValueError(f"the image is no base64 text ({fault})") from fault
    elif not is_blank(row.get("image_path")):
        path = (folder / str(row["image_path"])).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"{row['image_path']} is not inside {folder}")
        if not path.is_file():
            raise ValueError(f"there is no picture {path}")
        content = path.read_bytes()
    else:
        raise ValueError("no picture")
    try:
        from_bytes(content)
    except DataError as fault:
        raise ValueError(f"the picture cannot be read ({fault})") from fault
    return base64.b64encode(content).decode()


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
