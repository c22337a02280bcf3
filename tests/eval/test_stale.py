"""What was changed behind the evaluation's back never reaches a score, and what was not is not asked again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from moslora_xtuner.errors import DataError, OutputError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.llava import LlavaAnswerer
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.results.run_folder import held
from moslora_xtuner.eval.settings import Settings

MCQ, MME = "DigitsMMBench_EN", "DigitsMME"


@pytest.fixture(scope="module")
def first(export: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a random model, which knows nothing: 0 in every rotation, "Unknown" on MME."""
    return evaluate([export], [MCQ, MME], data_root, tmp_path_factory.mktemp("runs"), Settings(quiet=True))[0]


@pytest.fixture
def run(first: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first, tmp_path / "runs" / first.name))


@pytest.fixture
def root(data_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data_root, tmp_path / "lmu"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model was asked."""
    texts: list[str] = []
    answer = LlavaAnswerer.answer_batch

    def noting(self: LlavaAnswerer, questions: Any) -> list[str]:
        texts.extend(question.text for question in questions)
        return answer(self, questions)

    monkeypatch.setattr(LlavaAnswerer, "answer_batch", noting)
    return texts


def overall(run: Path, dataset: str) -> float:
    return float(scores.read(run).benchmarks[dataset]["overall"])


def change(path: Path, column: str, value: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite a column of a TSV."""
    frame = pandas.read_csv(path, sep="\t", dtype=str)
    frame[column] = [value(row) for row in frame.to_dict("records")]
    frame.to_csv(path, sep="\t", index=False)


def test_changed_answers_are_scored_anew(run: Path, export: Path, root: Path, asked: list[str]) -> None:
    """VLMEvalKit itself would take its `_auxmatch` and `_result` files of the old answers."""
    assert overall(run, MME) == 0.0
    file = run / "predictions" / f"{MME}.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        record["prediction"] = "Yes" if int(record["index"]) % 2 == 0 else "No"  # right, see mme_rows
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    evaluate([export], [MME], root, run.parent, Settings(quiet=True))
    assert overall(run, MME) == 600.0
    assert asked == []


def test_a_changed_key_is_scored_anew_and_nothing_asked(run: Path, export: Path, root: Path, asked: list[str]) -> None:
    file = run / "predictions" / f"{MME}.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**record, "prediction": "Yes"}) + "\n" for record in records))
    before = scores.read(run).manifest.datasets[MME].sha256
    evaluate([export], [MME], root, run.parent, Settings(quiet=True))
    assert overall(run, MME) == 150.0
    change(root / f"{MME}.tsv", "answer", lambda row: "Yes")
    evaluate([export], [MME], root, run.parent, Settings(quiet=True))
    assert overall(run, MME) == 600.0
    assert asked == []
    assert scores.read(run).manifest.datasets[MME].sha256 != before


def test_a_changed_question_or_picture_is_asked_again(
    run: Path, export: Path, root: Path, asked: list[str], picture: Callable[..., bytes]
) -> None:
    import base64

    one = Settings(quiet=True, batch_size=1)
    evaluate([export], [MME, MCQ], root, run.parent, one)
    asked.clear()
    new = base64.b64encode(picture(999)).decode()
    change(root / f"{MME}.tsv", "image", lambda row: new if row["index"] == "3" else row["image"])
    evaluate([export], [MME], root, run.parent, one)
    assert len(asked) == 1
    assert "(No)" in asked[0]
    change(root / f"{MCQ}.tsv", "B", lambda row: f"{row['B']}!" if row["index"] == "1" else row["B"])
    asked.clear()
    evaluate([export], [MCQ], root, run.parent, one)
    assert len(asked) == 1
    assert "B. light!" in asked[0]


def test_another_batch_size_or_library_is_asked_again_and_each_benchmark_keeps_its_own(
    run: Path, export: Path, root: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an answer is rounded by is part of what it is filed under, and of the manifest's record of its benchmark."""
    import transformers

    from moslora_xtuner.eval.results import manifest

    evaluate([export], [MME], root, run.parent, Settings(quiet=True, batch_size=5))
    assert len(asked) == 12
    found = scores.read(run).manifest
    assert (found.made_of(MME).batch_size, found.made_of(MCQ).batch_size) == (5, 64)
    stock = manifest.versions()
    monkeypatch.setattr(transformers, "__version__", "9.9")
    monkeypatch.setattr(manifest, "versions", lambda: {**stock, "transformers": "9.9"})
    asked.clear()
    evaluate([export], [MME], root, run.parent, Settings(quiet=True, batch_size=5))
    assert len(asked) == 12
    found = scores.read(run).manifest
    assert found.made_of(MME).versions["transformers"] == "9.9"
    assert found.made_of(MCQ).versions == stock
    asked.clear()
    evaluate([export], [MME], root, run.parent, Settings(quiet=True, batch_size=5, processes=1))
    assert asked == []


def test_a_spoilt_or_newer_score_file_stops_before_anything_is_written(run: Path, export: Path, root: Path) -> None:
    content = json.loads((run / "scores.json").read_text())
    for spoilt in ("{", json.dumps({**content, "format": 2})):
        (run / "scores.json").write_text(spoilt)
        before = (run / "manifest.json").read_bytes()
        with pytest.raises(DataError, match=r"scores\.json .* Or move it away"):
            evaluate([export], [MME], root, run.parent, Settings(quiet=True))
        assert ((run / "scores.json").read_text(), (run / "manifest.json").read_bytes()) == (spoilt, before)


def test_another_model_in_the_same_folder_is_asked_everything(
    run: Path, root: Path, asked: list[str], new_export: Callable[..., Path], tmp_path: Path
) -> None:
    other = new_export(tmp_path / "other", name="tiny", seed=7)
    evaluate([other], [MME], root, run.parent, Settings(quiet=True))
    assert len(asked) == 12
    found = scores.read(run)
    assert set(found.benchmarks) == {MME}  # the first model's multiple choice is not the second's
    whole = evaluate([other], [MME], root, tmp_path / "fresh", Settings(quiet=True))[0]
    assert found.benchmarks == scores.read(whole).benchmarks


def test_another_number_format_is_another_model(run: Path, export: Path, root: Path, asked: list[str]) -> None:
    from moslora_xtuner.eval.models.precision import Precision

    evaluate([export], [MME], root, run.parent, Settings(quiet=True, precision=Precision.bf16))
    assert len(asked) == 12
    assert set(scores.read(run).benchmarks) == {MME}


def test_two_at_once_in_one_folder_are_refused(run: Path, export: Path, root: Path) -> None:
    with held(run), pytest.raises(OutputError, match=r"another evaluation \(process \d+\)"):
        evaluate([export], [MME], root, run.parent, Settings(quiet=True))
    evaluate([export], [MME], root, run.parent, Settings(quiet=True))
