"""A flat copy is the same config as its recipe, can be edited in one place, and is not written when it would differ."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from places import ROOT

from moslora_xtuner.errors import ConfigError, OutputError, UsageError
from moslora_xtuner.recipes.flatten import flat, write_flat

CONFIGS = ROOT / "xtuner_configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
VARIABLES = {v for path in CONFIGS.rglob("*.py") for v in re.findall(r"\{\{\$(\w+):", path.read_text(encoding="utf-8"))}


@pytest.fixture(autouse=True)
def _default_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(path, import_custom_modules=False).to_dict()
    return found


def copy(name: str, folder: Path) -> Path:
    out = folder / "my.py"
    write_flat(CONFIGS / f"{name}.py", out)
    return out


def chain(folder: Path, base: str, leaf: str) -> Path:
    """A made-up base and leaf; returns the leaf."""
    (folder / "base.py").write_text(base, encoding="utf-8")
    path = folder / "leaf.py"
    path.write_text(f'_base_ = ["./base.py"]\n{leaf}', encoding="utf-8")
    return path


def comments(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def names(text: str) -> list[str]:
    """Every name that an assignment at the top gives, in order."""
    targets = (node.targets[0] for node in ast.parse(text).body if isinstance(node, ast.Assign))
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("name", RECIPES)
def test_the_copy_is_the_recipe_in_every_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe = copy(name, tmp_path), CONFIGS / f"{name}.py"
    here = load(recipe)
    assert load(out) == here
    assert VARIABLES
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"elsewhere/{variable}")
    moved = load(recipe)
    assert load(out) == moved != here


@pytest.mark.parametrize("name", RECIPES)
def test_the_copy_is_one_tidy_file(name: str) -> None:
    text = flat(CONFIGS / f"{name}.py", Path("my.py"))
    assert names(text)[0] == "_base_"
    assert "\n_base_ = []  # " in text
    assert "_delete_" not in text
    assert max(Counter(names(text)).values()) == 1
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", "xtuner_configs/my.py", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("digits_moslora", ["_base_/digits.py"]),
        ("llava_llama3_moslora_kaiming", ["_base_/llava.py", "_base_/llama3_8b.py"]),
    ],
)
def test_comments_are_kept(name: str, kept: list[str]) -> None:
    there = comments(flat(CONFIGS / f"{name}.py"))
    wanted = {text for file in kept for text in comments((CONFIGS / file).read_text(encoding="utf-8"))}
    assert len(wanted) > 3
    assert wanted <= set(there)
    assert [text for text, times in Counter(there).items() if times > 1 and "noqa" not in text] == []


def test_launch_lines_name_the_copy_and_the_rest_stays() -> None:
    recipe = CONFIGS / "llava_llama3_moslora.py"
    before = ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8")))
    after = ast.get_docstring(ast.parse(flat(recipe, Path("own/my.py"))))
    assert before is not None
    assert after is not None
    assert "    NPROC_PER_NODE=4 xtuner train own/my.py --deepspeed zero2\n" in after
    assert "llava_llama3_moslora.py" not in after
    assert after.startswith(before.replace("llava_llama3_moslora.py", "own/my.py"))
    assert "LLAVA_IMAGES   where the image paths" in after  # of the file that is inherited from
    digits = flat(CONFIGS / "digits_lora.py", Path("my.py"))
    assert "NPROC_PER_NODE=2 xtuner train my.py --deepspeed zero2\n" in digits


def test_one_variable_changes_all_that_is_computed_from_it(tmp_path: Path) -> None:
    out = copy("llava_llama3_moslora", tmp_path)
    text = out.read_text(encoding="utf-8")
    assert text.count("\nbatch_size = 8\n") == 1
    out.write_text(text.replace("\nbatch_size = 8\n", "\nbatch_size = 3\n"), encoding="utf-8")
    loader = load(out)["train_dataloader"]
    assert (loader["batch_size"], loader["sampler"]["per_device_batch_size"]) == (3, 6)  # two steps accumulate


def test_variables_stand_above_what_uses_them() -> None:
    order = names(flat(CONFIGS / "llava_llama3_moslora.py"))
    assert max(order.index(name) for name in ("llm_path", "seed", "batch_size", "accumulation")) < order.index("model")


def test_a_deleted_dict_keeps_nothing_and_what_nobody_reads_is_marked() -> None:
    text = flat(CONFIGS / "llava_llama3_pretrain.py")
    assert '    sampler=dict(type="mmengine.dataset.DefaultSampler", shuffle=True),\n' in text
    assert "LengthGroupedSampler" not in text
    assert '\nstore = "{{$LLAMA3_STORE:data/llava/store_llama3}}"  # not read in this file\n' in text
    assert "256 on four" in text
    assert "64 on four" not in text  # the base's, of a value that is replaced


BASE = '''# A licence.
"""The base."""

_base_ = []  # own words

import os
from pathlib import PurePath as _Path

# Sizes.

# How wide.
width = 4  # small
height = 2

data = dict(
    # what is read
    type="Data",
    root="{{$DATA_ROOT:data}}" + os.sep + _Path("x").name,  # where
    inner=dict(a=[1, 2], b="é"),  # two
    # below all
)
loader = dict(data=data, size=(width * height))
for _step in range(2):  # no assignment
    steps = _step + 1  # in it
hooks = [
    dict(type="A"),  # in a list
]
# The end.
'''
LEAF = """
from json import dumps as _dumps

width = 5
data = dict(root="other", inner=dict(b=None, c=_dumps([1])))  # leaf
loader = dict(data=dict(type="Own"), size=width * 2)
# Hooks of the leaf.
hooks = []
"""


def test_a_chain_with_all_that_can_stand_in_it(tmp_path: Path) -> None:
    recipe = chain(tmp_path, BASE, LEAF)
    text = flat(recipe)
    assert text.startswith("# A licence.\n_base_ = []  # own words\n\nimport os  # noqa: E402\nfrom json import dumps")
    wanted = ["# Sizes.", "# How wide.", "# what is read", "# two", "# below all", "# no assignment", "# in it"]
    assert set(comments(text)) >= {*wanted, "# leaf", "# Hooks of the leaf.", "# The end."}
    assert not {"# small", "# in a list"} & set(comments(text))  # of values that are replaced
    assert text.count("# where") == 1  # in the loader, which keeps the base's
    assert "\nwidth = 5\n" in text
    assert "inner=dict(a=[1, 2], b=None, c=_dumps([1]))" in text
    (tmp_path / "flat.py").write_text(text, encoding="utf-8")
    found = load(tmp_path / "flat.py")
    assert found["data"] == {
        "type": "Data",
        "root": "other",
        "inner": {"a": [1, 2], "b": None, "c": "[1]"},
    }
    assert found["loader"] == {"size": 10, "data": {**load(tmp_path / "base.py")["data"], "type": "Own"}}
    assert found["steps"] == 2


def test_what_changes_a_variable_stays_between_its_readers(tmp_path: Path) -> None:
    before = "first = 1\nearly = first\nread = first\n"
    base = before + "if first == 1:\n    first = 2\nlate = dict(value=first, read=read)\n"
    recipe = chain(tmp_path, base, "late = dict(more=True)\n")
    (tmp_path / "flat.py").write_text(flat(recipe), encoding="utf-8")
    found = load(tmp_path / "flat.py")
    assert (found["early"], found["late"]) == (1, {"value": 2, "read": 1, "more": True})


def test_lines_of_a_value_move_with_it(tmp_path: Path) -> None:
    base = "part = dict(\n    steps=[\n        1,  # one\n    ],\n)\nmodel = dict(part=part)\n"
    text = flat(chain(tmp_path, base, "model = dict(part=dict(other=2))\n"))
    assert "    part=dict(\n        steps=[\n            1,  # one\n        ],\n        other=2,\n    ),\n" in text


@pytest.mark.parametrize(
    ("base", "leaf", "keys"),
    [
        # The base computes with its own width, the flat file would compute with the leaf's.
        ("width = 4\nmodel = dict(size=width * 2, part=dict(w=width))\n", "width = 5\n", "model.part.w, model.size"),
        ("a = 1\nif a == 1:\n    b = 2\n", "a = 4\n", "b"),
    ],
)
def test_a_copy_that_would_train_something_else_is_refused(base: str, leaf: str, keys: str, tmp_path: Path) -> None:
    recipe = chain(tmp_path, base, leaf)
    with pytest.raises(ConfigError, match=rf"would change {re.escape(keys)}, since"):
        write_flat(recipe, tmp_path / "out.py")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.py", "leaf.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", "does not load"),
        ("x = y\n", "does not load .NameError"),
        ("_base_ = ['./none.py']\n", "does not load"),
        ("from moslora_xtuner.errors import ConfigError\nx = dict(type=ConfigError)\n", "lazy style"),
    ],
)
def test_what_is_no_text_style_config_is_refused(text: str, said: str, tmp_path: Path) -> None:
    recipe = tmp_path / "own.py"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        flat(recipe)


def test_a_copy_that_would_not_load_is_refused(tmp_path: Path) -> None:
    recipe = chain(tmp_path, "x = 1\n", "y = _base_.x\n")
    assert load(recipe)["y"] == 1
    with pytest.raises(ConfigError, match=r"would not load \(.*inherit from it instead: _base_ = \['leaf.py'\]"):
        flat(recipe)


def test_what_exists_is_replaced_by_force_alone(tmp_path: Path) -> None:
    recipe, out = CONFIGS / "digits_lora.py", tmp_path / "my.py"
    out.write_text("mine = 1\n")
    with pytest.raises(OutputError, match="--force"):
        write_flat(recipe, out)
    assert out.read_text() == "mine = 1\n"
    write_flat(recipe, out, force=True)
    assert load(out) == load(recipe)
    folder = tmp_path / "folder.py"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"exists: choose another name$"):
        write_flat(recipe, folder, force=True)
    with pytest.raises(UsageError, match=r"must end in \.py"):
        write_flat(recipe, tmp_path / "my.txt")
