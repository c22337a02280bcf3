"""Packaging: what is installed, from where, with which pins; and the install script's refusals."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from places import ROOT

INSTALL = ROOT / "scripts" / "install.sh"


def lines(name: str) -> list[str]:
    raw = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.split(" #")[0].rstrip() for line in raw if line.strip() and not line.lstrip().startswith("#")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tree and from another working directory."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "runs", "work_dirs", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(place), str(tree)], cwd=place, check=True)
    (built,) = place.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_whole_project(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    wanted = {"moslora_xtuner/cli/__init__.py", "moslora_xtuner/py.typed"}
    for source, installed in (("eval", "eval"), ("xtuner_configs", "configs")):
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wanted.add(f"moslora_xtuner/{installed}/{path.relative_to(ROOT / source)}")
    for path in (ROOT / "moslora_xtuner").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            wanted.add(str(path.relative_to(ROOT)))
    assert wanted - names == set()
    assert not [n for n in names if n.startswith(("tests", "eval/", "xtuner_configs"))]


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    assert "moslora = moslora_xtuner.__main__:main" in wheel.read(entry).decode()


def needs(wheel: zipfile.ZipFile) -> list[str]:
    (file,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(file)).get_all("Requires-Dist") or []


def test_adapter_users_need_no_xtuner_and_no_command_line(wheel: zipfile.ZipFile) -> None:
    light = {re.split(r"[<>=;\s]", need)[0] for need in needs(wheel) if "extra ==" not in need}
    assert light == {"torch", "peft", "transformers", "safetensors"}


def imported(code: str) -> set[str]:
    """The distributions' top-level names that `code` loads in a process of its own, with the standard library's."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_adapter_imports_nothing_of_the_command_line() -> None:
    ours = imported("import moslora_xtuner.adapters") - imported("import peft")
    assert not ours & {"typer", "rich", "PIL", "mmengine", "xtuner", "deepspeed"}


def test_no_module_of_before_is_packed_again(tmp_path: Path) -> None:
    """`pip install DIR` twice, a module deleted in between: the second wheel has none of it, the folder no build/."""
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "assets", "tests", "docs", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignore)
    gone = tree / "moslora_xtuner" / "old_idea.py"
    gone.write_text("")
    held = []
    for turn in ("first", "second"):
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "-w", str(tmp_path / turn), str(tree)], cwd=tmp_path, check=True)
        (built,) = (tmp_path / turn).glob("*.whl")
        held.append("moslora_xtuner/old_idea.py" in zipfile.ZipFile(built).namelist())
        gone.unlink(missing_ok=True)
    assert held == [True, False]
    assert not (tree / "build").exists()


def test_this_environment_has_the_pins() -> None:
    from packaging.requirements import Requirement

    wrong = []
    for line in lines("constraints.txt") + lines("requirements-nodeps.txt"):
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate():
            found = metadata.version(pin.name)
            if found not in pin.specifier:
                wrong.append(f"{pin.name}: {found} is installed, {pin.specifier} is pinned")
    assert wrong == []


def test_the_pins_serve_every_extra(wheel: zipfile.ZipFile) -> None:
    """Every requirement of setup.py and requirements.in is met by constraints.txt, on each Python."""
    from packaging.requirements import Requirement

    pins = [Requirement(line) for line in lines("constraints.txt")]
    wanted = [Requirement(need.split(";")[0]) for need in needs(wheel)]
    wanted += [Requirement(line) for line in lines("requirements.in")]
    for python in ("3.10", "3.11", "3.12"):
        here = {"python_full_version": python + ".0", "python_version": python}
        chosen = {
            p.name: str(p.specifier).removeprefix("==") for p in pins if p.marker is None or p.marker.evaluate(here)
        }
        unmet = [str(w) for w in wanted if w.name not in chosen or chosen[w.name] not in w.specifier]
        assert unmet == [], python


def test_the_pins_name_no_host() -> None:
    for name in ("constraints.txt", "requirements.in", "requirements-nodeps.txt"):
        assert not re.search(r"https?://|file:|index-url http", (ROOT / name).read_text()), name


def install(venv: Path | str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(INSTALL)],
        env={**os.environ, "MOSLORA_VENV": str(venv), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def fake(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["3.9.18", "3.13.0"])
def test_install_refuses_a_wrong_python(tmp_path: Path, version: str) -> None:
    python = fake(tmp_path, "python", f"echo {version}; exit 1")
    done = install(tmp_path / "venv", MOSLORA_PYTHON=str(python))
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"is {version}" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_install_refuses_a_full_disk(tmp_path: Path) -> None:
    fake(tmp_path / "bin", "df", "echo Filesystem 1024-blocks Used Available; echo /dev/x 9 9 2097152 99% /")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = install(tmp_path / "venv", PATH=path, MOSLORA_PYTHON=sys.executable)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "only 2 GB free" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_install_touches_no_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    done = install(tmp_path, MOSLORA_PYTHON=sys.executable)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "is not a Python environment" in done.stderr
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_install_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = install(tmp_path / "file" / "venv", MOSLORA_PYTHON=sys.executable)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"cannot write to {tmp_path / 'file' / 'venv'}" in done.stderr


def test_install_does_nothing_when_all_is_there() -> None:
    if not (Path(sys.prefix) / ".moslora-stamp").exists():
        assert install(sys.prefix).returncode == 0
    stamp = (Path(sys.prefix) / ".moslora-stamp").stat().st_mtime_ns
    done = install(sys.prefix)
    assert (Path(sys.prefix) / ".moslora-stamp").stat().st_mtime_ns == stamp
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
