"""The tables of docs/ that scripts write are what the code gives today."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "document_adapter.py",
        "document_commonsense.py",
        "document_data.py",
        "document_evaluation.py",
        "document_recipes.py",
        "document_steps.py",
        "document_workarounds.py",
        "faults.py",
        "real_size.py",
    ],
)
def test_the_tables_are_up_to_date(name: str) -> None:
    script = ROOT / "scripts" / name
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr[-2000:]
