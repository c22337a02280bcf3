"""The plan of the house: every source has its test, files and functions are short, names say what is in them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from covered import COVERED
from places import ROOT

LINES, FUNCTION_LINES = 300, 80
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common"}


@cache
def files() -> list[str]:
    """What git has, or would take, of Python."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split() if (ROOT / name).is_file()]


def sources() -> list[str]:
    """The package's files with code in them."""
    found = [name for name in files() if name.startswith(("moslora_xtuner/", "eval/"))]
    return [name for name in found if any(not _says(node) for node in ast.parse((ROOT / name).read_text()).body)]


def _says(node: ast.stmt) -> bool:
    """Whether a statement is a docstring or an import: a package's front, with nothing to test."""
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def fronts() -> set[str]:
    """Packages that only say what is in them: their names, and how they load on first use."""
    return {"moslora_xtuner/__init__.py", "moslora_xtuner/adapters/__init__.py", "eval/__init__.py",
            "moslora_xtuner/data/digits/__init__.py"}  # fmt: skip


def own_test(source: str) -> str:
    """The mirrored path."""
    path = Path(source.removeprefix("moslora_xtuner/"))
    return str(Path("tests") / path.with_name(f"test_{path.name}"))


def module(name: str) -> str:
    """The dotted name of a source."""
    dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"moslora_xtuner.{dotted}" if dotted.split(".")[0] == "eval" else dotted


def froms(name: str) -> Iterator[tuple[ast.ImportFrom, str]]:
    """Every from-import anywhere in a file, and the dotted name that it imports from, relative ones made absolute."""
    package = module(name).split(".")
    package = package if name.endswith("__init__.py") else package[:-1]
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield node, ".".join([*base, *([node.module] if node.module else [])])


@cache
def imports(name: str) -> frozenset[str]:
    """Every dotted name that a file imports, anywhere in it; of a config, which names classes in texts, those too."""
    found = {part for node, whole in froms(name) for part in (whole, *(f"{whole}.{item.name}" for item in node.names))}
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and name.startswith("xtuner_configs/"):
            said = str(node.value)
            found |= {said, said.rpartition(".")[0]}
    return frozenset(found)


def reached_from(test: str) -> set[str]:
    """The sources that a test loads, itself or through others, and through what its folders' conftests load."""
    names = {module(name): name for name in files()}
    names |= {Path(name).stem: name for name in files() if name.startswith("tests/")}
    folders = [str(folder / "conftest.py") for folder in Path(test).parents]
    todo, seen = [test, *(name for name in folders if name in files())], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [names[found] for found in imports(name) if found in names]
            if name == "moslora_xtuner/training/launch.py":  # what it starts is named in the configs
                todo += [config for config in files() if config.startswith("xtuner_configs/")]
    return seen


@pytest.mark.parametrize("source", [name for name in sources() if name not in fronts()])
def test_every_source_has_its_test(source: str) -> None:
    own = (ROOT / own_test(source)).is_file()
    assert own is not (source in COVERED), f"give it {own_test(source)}, or a line in COVERED, and not both"
    if not own and source != "moslora_xtuner/__main__.py":  # which is run as a program there
        assert (ROOT / COVERED[source]).is_file()
        assert source in reached_from(COVERED[source]), f"{COVERED[source]} does not load it"


def test_the_table_names_sources_that_are_there() -> None:
    assert set(COVERED) <= set(sources())


def allowed(line: str) -> bool:
    """Whether a line says why what it begins is long: `# long: ...`."""
    return "# long: " in line


@pytest.mark.parametrize("name", files())
def test_files_and_functions_are_short_and_named_for_what_is_in_them(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LINES or allowed(lines[0])
    assert not {Path(name).stem, *Path(name).parts} & VAGUE
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            long = (node.end_lineno or 0) - node.lineno + 1
            assert long <= FUNCTION_LINES or allowed(lines[node.lineno - 1]), f"{node.name}: {long} lines"


@cache
def defines(name: str) -> frozenset[str]:
    """What a file's own statements bind outside functions and classes; `*` where it makes names itself."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse((ROOT / name).read_text(encoding="utf-8"))]
    while todo:
        for node in ast.iter_child_nodes(todo.pop()):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                found |= {"*"} if node.name == "__getattr__" else {node.name}
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            todo.append(node)
    return frozenset(found)


@pytest.mark.parametrize("name", files())
def test_what_a_file_imports_of_ours_is_there(name: str) -> None:
    """Of scripts and tests too, which no type checker reads: a module that moved, a function that was renamed."""
    ours = {module(file): file for file in files()}
    ours |= {module(file).removeprefix("scripts."): file for file in files() if file.startswith("scripts/")}
    ours |= {Path(file).stem: file for file in files() if file.startswith("tests/") and file.count("/") == 1}
    for node, source in froms(name):
        if source.split(".")[0] not in {"moslora_xtuner", "scripts", *(item.split(".")[0] for item in ours)}:
            continue
        where = f"{name}, line {node.lineno}"
        assert source in ours or source == "moslora_xtuner.configs", f"{where}: there is no {source}"
        for alias in node.names:
            known = source in ours and {alias.name, "*"} & defines(ours[source])
            assert known or f"{source}.{alias.name}" in ours, f"{where}: {source} has no {alias.name}"


QUESTIONS = {
    "where are answers parsed": "eval/scoring/score.py",
    "where is a picture padded": "moslora_xtuner/data/images/preprocess.py",
    "where does a judge's verdict get kept": "eval/judges/base.py",
    "what does Table 5's row 5 train": "xtuner_configs/llava_internlm2_qmoslora.py",
}


def test_contributing_leads_a_newcomer_there_in_one_step() -> None:
    """Each file is named in one row of the table, and it is the right one: it defines what is asked for."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for question, file in QUESTIONS.items():
        assert any(Path(file).name in row for row in rows), question
    said = {file: (ROOT / file).read_text(encoding="utf-8") for file in QUESTIONS.values()}
    assert "dataset.evaluate(" in said["eval/scoring/score.py"]
    assert "def pad_to_square" in said["moslora_xtuner/data/images/preprocess.py"]
    assert "JsonLog" in said["eval/judges/base.py"]
    assert "Table 5, row 5" in said["xtuner_configs/llava_internlm2_qmoslora.py"]


UPSTREAM = {"tests/test_custom_models.py"}
"""PEFT's own, which docs/adapter.md names."""


PAGES = ["CONTRIBUTING.md", "README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:moslora_xtuner|eval|scripts|tests|xtuner_configs|docs)/[\w/.]*)`", text)) - UPSTREAM
    assert page != "CONTRIBUTING.md" or len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []
