"""Put DigitsVQA on disk: PNG files and LLaVA JSON to train on, VLMEvalKit tables to be tested on."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...hashing import sha256
from ...output import atomic_folder, claim, marker
from ..instructions import yes_no
from . import SCENES, TEST_QUESTIONS
from .conversations import as_text_only, scene_and_turns, to_llava, with_image
from .questions import ABILITY_NAMES, CATEGORIES, LANGUAGES, Question, ask, scene_for
from .scenes import Scene, draw
from .statements import SUBTASKS, scene_for_subtask, statement_pair

TEXT_ONLY_SHARE = 0.06
"""As in LLaVA-1.5's mix: 40,688 of 665,298 records have no image."""
ROTATION_OFFSET = 1_000_000
"""MMBench's circular evaluation: rotation k of question i has index i + k * 10^6."""
KIND = "digits data"
TEST_SETS = ("DigitsMMBench_EN", "DigitsMMBench_CN", "DigitsMME", "DigitsTextVQA")

Row = dict[str, Any]
Tick = Callable[[], None]


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    draw(scene).save(buffer, "PNG")
    return buffer.getvalue()


def _generator(seed: int, part: str) -> np.random.Generator:
    """An own stream for each part, so that the size of one does not change another."""
    return np.random.default_rng([seed, *part.encode()])


def _train_records(folder: Path, seed: int, scenes: int, tick: Tick) -> Iterator[Row]:
    rng = _generator(seed, "train")
    for number in range(scenes):
        scene, turns = scene_and_turns(rng, "train", turns=4)
        record: Row = {"id": f"digits-{number:06d}"}
        if rng.random() < TEXT_ONLY_SHARE:
            turns = as_text_only(scene, turns)
        else:
            name = f"{number:06d}.png"
            (folder / "images" / name).write_bytes(_png(scene))
            record["image"] = name
            turns = with_image(turns)
        record["conversations"] = to_llava(turns)
        yield record
        tick()


def _questions(seed: int, part: str, count: int) -> Iterator[tuple[str, Scene, Question]]:
    """The same number of questions for each ability, its categories in turn."""
    rng = _generator(seed, part)
    by_ability = {
        ability: [name for name, category in CATEGORIES.items() if category.ability == ability]
        for ability in ABILITY_NAMES
    }
    for number in range(count):
        names = list(by_ability.values())[number % len(by_ability)]
        name = names[number // len(by_ability) % len(names)]
        scene = scene_for(name, rng, "test")
        yield name, scene, ask(name, scene, rng)


def mmbench_rows(seed: int, count: int, language: str) -> list[Row]:
    """Multiple choice with every rotation of the options, as MMBench's circular evaluation wants it.

    Both languages ask the same questions about the same scenes, with the options in the same order.
    A rotation's picture is given by the index of the first row, as VLMEvalKit allows.
    """
    tag = LANGUAGES.index(language)
    order_rng = _generator(seed, "mmbench options")
    rows: list[Row] = []
    for number, (name, scene, question) in enumerate(_questions(seed, "mmbench", count), 1):
        options, right = question.options(order_rng)
        for turn in range(len(options)):
            rotated = options[turn:] + options[:turn]
            row: Row = {
                "index": number + turn * ROTATION_OFFSET,
                "image": base64.b64encode(_png(scene)).decode() if turn == 0 else str(number),
                "question": question.text[tag],
                "answer": chr(ord("A") + (right - turn) % len(options)),
                "category": name,
                "l2-category": ABILITY_NAMES[question.ability],
            }
            for place in range(4):
                row[chr(ord("A") + place)] = rotated[place][tag] if place < len(rotated) else ""
            rows.append(row)
    return sorted(rows, key=lambda row: int(row["index"]))


def mme_rows(seed: int, count: int) -> list[Row]:
    """Yes/no questions, two for each picture, the same number of pictures for each subtask."""
    rng = _generator(seed, "mme")
    pictures = -(-count // (2 * len(SUBTASKS)))
    rows: list[Row] = []
    for subtask in SUBTASKS:
        for number in range(pictures):
            scene = scene_for_subtask(subtask, rng, "test")
            first = len(rows)
            for place, (text, answer) in enumerate(statement_pair(subtask, scene, rng)):
                rows.append(
                    {
                        "index": first + place,
                        "image": base64.b64encode(_png(scene)).decode() if place == 0 else str(first),
                        "image_path": f"{subtask}/{number:04d}.png",
                        "question": yes_no(text),
                        "answer": answer,
                        "category": subtask,
                    }
                )
    return rows


def textvqa_rows(seed: int, count: int) -> list[Row]:
    """Open questions in English; the answer column holds ten agreeing answers, as TextVQA's does."""
    return [
        {
            "index": number,
            "image": base64.b64encode(_png(scene)).decode(),
            "question": question.text[0],
            "answer": str([question.answer[0]] * 10),
            "category": name,
        }
        for number, (name, scene, question) in enumerate(_questions(seed, "textvqa", count))
    ]


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_digits(
    out: Path,
    seed: int = 0,
    scenes: int = SCENES,
    test_questions: int = TEST_QUESTIONS,
    test_seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the training set and the four test sets to `out`.

    Layout: `train.json` and `images/` (LLaVA form), `LMUData/*.tsv` (VLMEvalKit form), `manifest.json` (seeds,
    counts, sha256). The same arguments give the same bytes. The folder appears whole or not at all; one that is
    there already with the same arguments is left as it is.

    Args:
        out: the folder to make.
        seed: of the training scenes and questions.
        scenes: how many training records.
        test_questions: how many questions in each test set; a MMBench question counts once, not per rotation.
        test_seed: of the test sets; runs that are to be compared keep it.
        progress: called with (records done, records in all).

    Raises:
        DataError: fewer than 1 record or fewer than 16 questions asked for.
        OutputError: the folder exists with other content, or cannot be written.
    """
    if scenes < 1 or test_questions < 16:
        raise DataError(
            f"DigitsVQA wants at least 1 scene and 16 test questions, got {scenes} and {test_questions}: ask for more"
        )
    settings: Row = {"seed": seed, "scenes": scenes, "test_questions": test_questions, "test_seed": test_seed}
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, scenes)

    if marker(out) is not None:
        claim(out, KIND, settings)
        return out
    with atomic_folder(out, KIND) as folder:
        claim(folder, KIND, settings)
        (folder / "images").mkdir()
        (folder / "LMUData").mkdir()
        records = list(_train_records(folder, seed, scenes, tick))
        (folder / "train.json").write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
        tables = {
            "DigitsMMBench_EN": mmbench_rows(test_seed, test_questions, "en"),
            "DigitsMMBench_CN": mmbench_rows(test_seed, test_questions, "cn"),
            "DigitsMME": mme_rows(test_seed, test_questions),
            "DigitsTextVQA": textvqa_rows(test_seed, test_questions),
        }
        for name, rows in tables.items():
            _write_table(folder / "LMUData" / f"{name}.tsv", rows)
        facts: Row = {
            **settings,
            "text_only": sum("image" not in record for record in records),
            "rows": {name: len(rows) for name, rows in tables.items()},
            "sha256": {
                str(path.relative_to(folder)): sha256(path)
                for path in [folder / "train.json", *sorted((folder / "LMUData").iterdir())]
            },
        }
        (folder / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n")
    return out
