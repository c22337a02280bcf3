"""The report's page: complete, self-contained, escaped, and made from as little as a scores.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_runs import EVIL, Page, make_run

from moslora_xtuner.errors import DataError, OutputError, UsageError
from moslora_xtuner.eval.report import loss_curves
from moslora_xtuner.eval.report.page import TEMPLATES, write_report
from moslora_xtuner.eval.report.paper_table5 import TABLE5
from moslora_xtuner.eval.tasks.registry import MME_COGNITION, MME_PERCEPTION
from moslora_xtuner.output import MARKER


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path, "LoRA", 60), make_run(tmp_path, EVIL, 80)]


def test_the_page_holds_everything(runs: list[Path], tmp_path: Path) -> None:
    log = tmp_path / "loss.jsonl"
    log.write_text("".join(json.dumps({"step": i, "loss": 4.0 / i}) + "\n" for i in range(1, 101)))
    out = tmp_path / "out"
    path = write_report(
        runs,
        out,
        baseline="LoRA",
        training={"LoRA": log},
        command="moslora quickstart",
        times={"training LoRA": 181.27},
    )
    assert path == out / "report.html"
    radars = {"radar.png", "radar.svg", "radar_absolute.png", "radar_absolute.svg"}
    assert {item.name for item in out.iterdir()} - {MARKER} == {
        "report.html",
        "scores.csv",
        "scores.md",
        "differences.csv",
        *radars,
    }
    page = Page(path.read_text(encoding="utf-8"))
    assert "moslora quickstart" in page.text
    assert "181.3" in page.text
    assert "60.0" in page.text
    assert re.search(r"50\.0 to (69|70)\.0", page.text)  # 60 of 100: 60 +- 9.6
    assert "+20.0" in page.text
    assert "p < 0.001" in page.text
    assert "withheld: missing Digits-CN, Digits-MME, Digits-VQA" in page.text
    assert "Training loss" in page.text
    assert "1024" in page.text
    assert "9.7" in page.text
    assert "✓" in page.text
    assert "✗" in page.text


def test_nothing_is_loaded_from_elsewhere(runs: list[Path], tmp_path: Path) -> None:
    page = Page(write_report(runs, tmp_path / "out").read_text(encoding="utf-8"))
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed"}
        assert "src" not in attributes or (attributes["src"] or "").startswith("data:image/")
        assert "href" not in attributes
    images = [tag for tag, _ in page.tags if tag == "img"]
    # two radars and one sample: the sample with an address has no picture
    assert len(images) == 3
    metas = [attributes.get("name") for tag, attributes in page.tags if tag == "meta"]
    assert "viewport" in metas


def test_data_is_text_and_never_markup(runs: list[Path], tmp_path: Path) -> None:
    text = write_report(runs, tmp_path / "out", baseline="LoRA", command=EVIL, title=EVIL).read_text(encoding="utf-8")
    assert EVIL not in text
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert page.text.count(EVIL) >= 5


def test_changed_answers_stand_in_the_page_and_in_a_file(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    page = Page(write_report(runs, out, baseline="LoRA").read_text(encoding="utf-8"))
    assert "Changed answers: each run against LoRA" in page.text
    cards = [attributes["data-tags"] for _, attributes in page.tags if "data-tags" in attributes]
    assert cards == ["0:gained "] * 20  # questions 60 to 79
    assert f"{EVIL}: A" in page.text
    assert "No pictures: the runs do not record the table of questions." in page.text
    rows = (out / "differences.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 21
    assert rows[1].startswith('"<script>alert(""x"")</script>&",DigitsMMBench_EN,60,AR,gained,A,"no idea')
    closed = [attributes for tag, attributes in page.tags if tag == "details" and "open" not in attributes]
    assert any("data-changes" in attributes for attributes in closed)
    # A report without a baseline in the same folder leaves no list of another report's changes behind.
    write_report(runs, out)
    assert not (out / "differences.csv").exists()
    assert (out / "radar.png").exists()


def test_fine_abilities_and_subtasks(tmp_path: Path) -> None:
    subtasks = dict.fromkeys((*MME_PERCEPTION, *MME_COGNITION), 100.0)
    mme = {"overall": 1400.0, "scale": 2800, "abilities": subtasks, "perception": 1000.0, "cognition": 400.0}
    mmb = {"overall": 1.0, "scale": 100, "categories": {"image_style": 12.5}}
    content = {"model": "m", "benchmarks": {"MME": mme, "MMBench_TEST_EN": mmb}}
    (tmp_path / "scores.json").write_text(json.dumps(content))
    text = write_report([tmp_path], tmp_path / "out").read_text(encoding="utf-8")
    assert "MMB-EN: fine abilities (1), per cent" in Page(text).text
    assert '<th scope="row">image_style</th><td>12.5</td>' in text
    assert "MME: 14 subtasks, points, 200 a subtask, 2800 in all" in text
    whole = text.replace("<wbr>", "")
    assert len(re.findall(r'<th scope="row">\w+</th><td>100\.0</td>', whole)) == 14
    for name, points in (("perception", "1000.0"), ("cognition", "400.0"), ("overall", "1400.0")):
        assert f'<th scope="row">{name}</th><td>{points}</td>' in text


def test_a_judge_that_was_away_is_named(runs: list[Path], tmp_path: Path) -> None:
    path = runs[0] / "scores.json"
    content = json.loads(path.read_text())
    content["manifest"]["unscored"] = {"DigitsMME": "judge unavailable: refused"}
    path.write_text(json.dumps(content))
    page = Page(write_report(runs, tmp_path / "out").read_text(encoding="utf-8"))
    assert "withheld: missing Digits-CN, Digits-VQA; Digits-MME: judge unavailable" in page.text
    assert "LoRA, Digits-MME: not scored: judge unavailable: refused." in page.text
    assert "Digits-EN: exact matching, no judge." in page.text


def test_scores_alone_are_enough(tmp_path: Path) -> None:
    folders = []
    for number, row in enumerate(TABLE5[:2]):
        entries = {
            name: {"overall": value * (28 if name == "MME" else 1), "scale": 2800 if name == "MME" else 100}
            for name, value in row.scores.items()
        }
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "scores.json").write_text(json.dumps({"model": f"mine {number}", "benchmarks": entries}))
        folders.append(folder)
    page = Page(write_report(folders, tmp_path / "out", baseline="mine 0").read_text(encoding="utf-8"))
    assert "56.8" in page.text
    assert "+0.5" in page.text  # 57.32 - 56.79
    assert "not measured here" in page.text
    assert not (tmp_path / "out" / "radar.png").exists()
    header, first, _ = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    assert header.startswith("model,MMB-EN,")
    assert first.startswith("mine 0,72.00,")
    assert first.endswith(",56.79")


def test_a_stranger_as_baseline_and_twins_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run named 'base'"):
        write_report(runs, tmp_path / "out", baseline="base")
    with pytest.raises(UsageError, match="Two runs"):
        write_report([runs[0], runs[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_curves(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"step": i, "loss": 10.0 - 0.1 * i} for i in range(1, 41)] + [
        {"step": 40, "loss": 1.0},
        {"note": 1},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = loss_curves.read("x", path)
    assert curve.steps == tuple(range(1, 41))
    assert curve.ends() == (pytest.approx((9.9 + 9.8) / 2), pytest.approx((6.1 + 1.0) / 2))
    assert curve.smooth()[1] == pytest.approx((9.9 + 9.8) / 2)
    path.write_text('{"step": 1, "loss": "NaN"}\n')
    with pytest.raises(DataError, match="no loss"):
        loss_curves.read("x", path)
    path.write_text("step 1 loss 2\n")
    with pytest.raises(DataError, match="line 1"):
        loss_curves.read("x", path)
    with pytest.raises(DataError, match="does not exist"):
        loss_curves.read("x", tmp_path / "none")


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "LoRA", 3)]
    for name in ("scores.csv", "report.html", "scores.md", "notes.txt"):
        out = tmp_path / f"with {name}"
        out.mkdir()
        (out / name).write_text("mine")
        with pytest.raises(OutputError, match="not made by moslora"):
            write_report(runs, out)
        assert {path.name: path.read_text() for path in out.iterdir()} == {name: "mine"}
    with pytest.raises(OutputError, match="not made by moslora"):
        write_report(runs, runs[0])  # of another kind, or without a mark
    page = write_report(runs, tmp_path / "own")
    (tmp_path / "own" / MARKER).unlink()  # as an earlier version left it
    assert write_report(runs, tmp_path / "own") == page


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of #rrggbb."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_has_contrast_in_light_and_dark() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", line)) for line in style.splitlines() if ":root {" in line]
    assert len(schemes) == 3
    for scheme in schemes:
        for back in ("back", "box"):
            for text in ("text", "soft", "good", "bad"):
                dark, light = sorted(luminance(scheme[name]) for name in (back, text))
                assert (light + 0.05) / (dark + 0.05) > 4.5, (text, back, scheme)
