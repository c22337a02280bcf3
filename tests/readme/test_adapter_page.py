"""The counted tables of docs/adapter.md are what the code gives today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_tables_are_up_to_date() -> None:
    script = ROOT / "scripts" / "document_adapter.py"
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr[-2000:]
