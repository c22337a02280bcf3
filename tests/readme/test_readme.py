"""The README: its commands run or parse as written, its files exist, its tables are the truth."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer.main
from places import ROOT

from moslora_xtuner import cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
FOUND = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FOUND}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Each command's words, without the variables that are set before it."""
    whole = (block.replace("\\\n", " ") for block in blocks(text, "bash"))
    found = [shlex.split(line, comments=True) for block in whole for line in block.splitlines()]
    plain = [words[next((i for i, word in enumerate(words) if not SETS.match(word)), 0) :] for words in found]
    return [words for words in plain if words]


SETS = re.compile(r"[A-Za-z_0-9]+=")
MOSLORA = [words[1:] for words in commands(README) if words[0] == "moslora"]
DOCUMENTED = [words[1:] for page in PAGES.values() for words in commands(page) if words[0] == "moslora"]


def parse(words: list[str]) -> dict[str, Any]:
    """Parse a command line with the real parser, down to the verb, and run nothing."""
    command: Any = typer.main.get_command(cli.app)
    context = command.make_context("moslora", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", getattr(context, "protected_args", [])), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    parameters: dict[str, Any] = context.params
    return parameters


def test_the_two_commands_are_on_the_first_screen() -> None:
    screen = "\n".join(README.splitlines()[:20])
    assert [words[:2] for words in commands(screen + "\n")] == [
        ["bash", "scripts/quickstart.sh"],
        ["bash", "scripts/test.sh"],
    ]


@pytest.mark.parametrize("words", DOCUMENTED, ids=" ".join)
def test_every_verb_is_used_as_it_is(words: list[str]) -> None:
    assert parse(words)


def test_every_page_is_named_in_the_readme() -> None:
    assert [name for name in PAGES if name.startswith("docs/") and f"]({name})" not in README] == []


def test_the_steps_follow_from_each_other() -> None:
    assert [words[0] for words in MOSLORA] == ["data", "train", "export", "eval", "report"]
    data, train, export, evaluate, report = (parse(words) for words in MOSLORA)
    assert evaluate["data_root"] == data["out"] / "LMUData"
    assert export["run"] == train["work_dir"]
    assert evaluate["models"] == [str(export["out"])]
    assert report["runs"] == [evaluate["out"] / export["out"].name]


def test_the_parser_notices_a_wrong_option() -> None:
    with pytest.raises(Exception, match="deepsped"):
        parse(["train", "digits_moslora", "--deepsped", "zero2"])


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_links_exist(page: str) -> None:
    named = [word for words in commands(PAGES[page]) for word in words if re.match(r"(scripts|tests)/", word)]
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", PAGES[page])
    here = (ROOT / page).parent
    assert named or links or page in ("docs/adapter.md", "docs/plan.md")
    assert [path for path in named if not (ROOT / path.split("::")[0]).exists()] == []
    assert [path for path in links if not (here / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_bash_blocks_are_bash(page: str) -> None:
    for block in blocks(PAGES[page], "bash"):
        checked = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_table_of_verbs_is_complete() -> None:
    table = set(re.findall(r"^\| `moslora ([a-z -]+)` \|", README, re.MULTILINE))
    commands: Any = typer.main.get_command(cli.app)
    inner = {f"data {name}" for name in commands.commands["data"].commands}
    assert table == (commands.commands.keys() | inner) - {"quickstart", "data"}


def test_the_table_of_recipes_is_complete() -> None:
    rows = re.findall(r"^\| `([a-z0-9_*]+\.py)`(?:, ([a-z]+))? \|", README, re.MULTILINE)
    folder, numbers = ROOT / "xtuner_configs", {"": 1, "sixteen": 16}
    found = [
        path.name for row, count in rows if len(list(folder.glob(row))) == numbers[count] for path in folder.glob(row)
    ]
    assert sorted(found) == sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")


def test_install_runs_as_written() -> None:
    (line,) = {" ".join(words) for words in commands(PAGES["CONTRIBUTING.md"]) if "install.sh" in words[1]}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env={**os.environ, "MOSLORA_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{sys.prefix}" in done.stdout


def test_the_adapter_example_trains_mixers() -> None:
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.v_proj = nn.Linear(32, 32), nn.Linear(32, 32)

    (block,) = blocks(README, "python")
    scope: dict[str, Any] = {"model": nn.Sequential(Attention())}
    exec(block, scope)
    shapes = [tuple(p.shape) for n, p in scope["model"].named_parameters() if "lora_AB" in n and p.requires_grad]
    assert shapes == [(16, 16), (16, 16)]
