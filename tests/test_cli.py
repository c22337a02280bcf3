"""The command line: help with examples, light imports, one line and the right status for every error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import moslora_xtuner
from moslora_xtuner import cli, errors

VERBS = ["quickstart", "data digits", "data check", "data prepare", "train", "export", "eval", "report"]
HEAVY = {"torch", "transformers", "peft", "xtuner", "vlmeval", "mmengine", "matplotlib", "numpy", "pandas"}


def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moslora_xtuner", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_app([*verb.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Example: moslora {verb} " in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_app(["--version"]) == 0
    assert capsys.readouterr().out == f"moslora {moslora_xtuner.__version__}\n"


def test_import_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys, moslora_xtuner, moslora_xtuner.cli as cli\n"
        "assert cli.run_app(['train', '--help']) == 0\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def fails_with(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> int:
    def verb(*_: object, **__: object) -> None:
        raise fault

    # The verb's command object holds the function: what it calls is replaced, not the verb's own code.
    monkeypatch.setattr(cli, "app", verb)
    return cli.run_app(["train", "x"])


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.MoSLoRAError)]
)
def test_an_error_is_one_line_and_its_own_status(
    kind: type[errors.MoSLoRAError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(monkeypatch, kind("a is wrong:\n  do b")) == kind.exit_code != 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: a is wrong: do b\n")


def test_an_interrupt_is_130_and_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for fault in (KeyboardInterrupt(), SystemExit(130)):
        assert fails_with(monkeypatch, fault) == 130
        assert capsys.readouterr().err == "error: interrupted: the same command goes on where it stopped\n"


def test_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = fails_with(monkeypatch, ModuleNotFoundError("No module named 'vlmeval'", name="vlmeval"))
    assert status == errors.SetupError.exit_code
    assert "'vlmeval' is missing: run 'bash scripts/install.sh'" in capsys.readouterr().err


def test_an_unexpected_error_is_no_success_and_points_to_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(monkeypatch, ZeroDivisionError("division by zero")) == cli.UNEXPECTED
    shown = capsys.readouterr().err
    assert shown.startswith("error: ZeroDivisionError: division by zero (")
    assert "--debug" in shown


def test_debug_shows_the_traceback_of_a_real_failure(tmp_path: Path) -> None:
    words = ["eval", "x", "-o", str(tmp_path / "out")]
    plain, debug = call(*words, env={"LMUData": ""}), call("--debug", *words, env={"LMUData": ""})
    assert plain.returncode == debug.returncode == errors.UsageError.exit_code
    assert plain.stdout == debug.stdout == ""
    assert plain.stderr.splitlines() == [debug.stderr.splitlines()[-1]]
    assert "--data-root" in plain.stderr
    assert "Traceback" in debug.stderr


def test_wrong_usage_is_2() -> None:
    for words in (["nonsense"], ["train"], ["export", "run", "-o", "x", "--format", "onnx"]):
        assert call(*words).returncode == 2


def test_the_packages_without_dependencies_are_named_as_pinned() -> None:
    lines = (Path(__file__).parents[1] / "requirements-nodeps.txt").read_text().splitlines()
    assert tuple(line for line in lines if line and not line.startswith("#")) == cli.NO_DEPS
