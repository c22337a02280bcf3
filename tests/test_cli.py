"""The command line: help with examples, light imports, one line and the right status for every error."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import CONFIGS, ROOT

import moslora_xtuner
from moslora_xtuner import cli, errors

VERBS = [
    "quickstart",
    "base smollm2",
    "data digits",
    "data check",
    "data prepare",
    "config",
    "plan",
    "train",
    "export",
    "eval",
    "report",
]
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


def test_the_commands_are_there_before_any_part_is_loaded() -> None:
    """Of the sources alone, as the adapter's tests with other releases have them, `eval` is not there at all."""
    code = "import sys\nfor part in ('eval', 'training', 'export'): sys.modules['moslora_xtuner.' + part] = None\n"
    done = subprocess.run([sys.executable, "-c", f"{code}import moslora_xtuner.cli"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_of_recipes_loads_nothing_heavy_and_prints_whole_lines() -> None:
    code = (
        "import sys, moslora_xtuner.cli as cli\n"
        "assert cli.run_app(['config']) == 0\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    env = {**os.environ, "COLUMNS": "40"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    table, loaded = done.stdout.split("LOADED")
    assert not set(loaded.split()) & HEAVY
    head, *rows = table.splitlines()
    there = (CONFIGS).glob("*.py")
    assert [row.split()[0] for row in rows] == sorted(path.stem for path in there if path.stem != "__init__")
    column = head.index("Table 5")
    means = {row.split()[0]: row[column:] for row in rows}
    # The row and the mean as the paper prints them, typed in here once more.
    assert means["llava_llama3_lora"] == "row 1: 56.8"
    assert means["llava_llama3_moslora"] == "row 2: 57.3"
    assert means["llava_llama3_moslora_kaiming"] == "row 3: 57.1"
    assert means["digits_moslora"] == means["llava_llama3_qmoslora"] == "-"
    (row,) = (row for row in rows if row.startswith("llava_llama3_pretrain "))
    assert "the projector alone learns captions; language model and visual encoder stand still.  " in row
    assert "nine benchmarks" in done.stderr


def test_the_list_of_recipes_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.run_app(["config"]) == 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
    assert max(len(line) for line in plain.splitlines()) <= 80
    assert "…" not in plain
    words = " ".join(plain.split())
    assert "llava_llama3_moslora_kaiming LLaVA-1.5 on" in words
    assert "nine benchmarks" in words


def test_config_prints_or_writes_a_copy(tmp_path: Path) -> None:
    env = {"DIGITS_DATA": "elsewhere"}  # mmengine says so on standard output, where the config goes
    printed = call("config", "digits_moslora", env=env)
    assert printed.returncode == 0
    compile(printed.stdout, "copy", "exec")
    assert printed.stdout.startswith('"""DigitsVQA with MoSLoRA')
    assert 'data_root = "{{$DIGITS_DATA:data/digits}}"' in printed.stdout
    out = tmp_path / "my.py"
    assert call("config", "digits_moslora.py", "-o", str(out), env=env).stdout == f"config: {out}\n"
    launched = out.read_text().replace(str(out), "xtuner_configs/digits_moslora.py")
    assert launched == printed.stdout
    again = call("config", "digits_lora", "-o", str(out))
    assert again.returncode == errors.OutputError.exit_code
    assert again.stderr.startswith(f"error: {out} exists: ")
    assert call("config", "digits_lora", "-o", str(out), "--force").returncode == 0
    assert out.read_text().startswith('"""DigitsVQA with LoRA')


def test_config_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_app(["config", "-o", str(tmp_path / "my.py")]) == errors.UsageError.exit_code
    assert "moslora config NAME -o FILE" in capsys.readouterr().err
    assert cli.run_app(["config", "none"]) == errors.ConfigError.exit_code
    assert "give a file or one of commonsense_adalora, " in capsys.readouterr().err


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


def test_without_its_packages_the_command_says_what_to_install() -> None:
    """As after `pip install` of the adapter alone."""
    code = "import sys; sys.modules['typer'] = None\nfrom moslora_xtuner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert done.returncode == errors.SetupError.exit_code
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("error: the command needs 'typer'")
    assert "moslora-xtuner[cli]" in done.stderr


def test_nothing_is_said_of_a_kernel_for_4_bit_layers() -> None:
    code = (
        "import logging, moslora_xtuner; log = logging.getLogger('bitsandbytes.backends.cpu.ops')\n"
        "log.warning('Failed to load CPU gemm_4bit_forward from kernels-community: %s', 'x'); log.warning('other')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "other\n"


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
    lines = (ROOT / "requirements-nodeps.txt").read_text().splitlines()
    assert tuple(line for line in lines if line and not line.startswith("#")) == cli.NO_DEPS
