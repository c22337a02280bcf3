"""Run PEFT's own tests of LoRA with MosLoraConfig in the place of LoraConfig, and count.

    python scripts/peft_matrix.py                         the installed peft's release, fetched with pip
    python scripts/peft_matrix.py --source DIR            an unpacked source release of it
    python scripts/peft_matrix.py tests/test_lora_variants.py ...     other files than tests/test_custom_models.py

Each test runs twice, with stock LoRA and with a mixer. What passes with the one and not with the other is listed by
its reason. Nothing of PEFT's tests is kept: they are read from the release. They need parameterized and diffusers.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

FILES = ["tests/test_custom_models.py"]
_SETTINGS, _REPORT = "MOSLORA_MATRIX_SETTINGS", "MOSLORA_MATRIX_REPORT"


def pytest_configure(config: Any) -> None:
    """Swap the config class that the tests are about to import. (This file is also the plugin of the runs.)"""
    import peft

    if settings := os.environ[_SETTINGS]:
        from moslora_xtuner.adapters import MosLoraConfig

        class LoraConfig(MosLoraConfig):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **{**json.loads(settings), **kwargs})

        LoraConfig.__qualname__ = "LoraConfig"
        globals()["LoraConfig"] = LoraConfig  # so that it can be pickled
        vars(peft)["LoraConfig"] = LoraConfig


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests that build a LoraConfig: by their parameters, or those that have no config for one."""
    import peft

    def of_lora(item: Any) -> bool:
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        classes = [value for value in values if isinstance(value, type) and issubclass(value, peft.PeftConfig)]
        return all(each is peft.LoraConfig for each in classes)

    dropped = [item for item in items if not of_lora(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if of_lora(item)]


def pytest_runtest_logreport(report: Any) -> None:
    """Write one line a test: its name, outcome and the last line of what it raised."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        told = crash.message.splitlines()[0] if crash and crash.message else ""
        with Path(os.environ[_REPORT]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([report.nodeid, report.outcome, told]) + "\n")


def _source(folder: Path) -> Path:
    import peft

    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    fetched = subprocess.run([*pip, f"peft=={peft.__version__}", "-d", str(folder)], capture_output=True, text=True)
    if fetched.returncode:
        raise SystemExit(f"error: pip cannot fetch the release; give --source ({fetched.stderr.strip()[-300:]})")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def _run(source: Path, files: list[str], settings: str, report: Path) -> dict[str, tuple[str, str]]:
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, _SETTINGS: settings, _REPORT: str(report), "HF_HUB_OFFLINE": "1"}
    # PEFT's own pytest settings ask for plugins that count lines.
    settings_file = report.with_suffix(".ini")
    settings_file.write_text("[pytest]\n", encoding="utf-8")
    ours = ["-p", "peft_matrix", "-p", "no:cacheprovider", "-c", str(settings_file), "--rootdir", str(source)]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", *ours, *files]
    run = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    if not report.exists():
        raise SystemExit(f"error: no test ran:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    return {name: (outcome, told) for name, outcome, told in lines}


def main() -> None:
    """Run, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--source", type=Path, help="an unpacked source release of the installed peft")
    parser.add_argument("--mixer", default="learned", choices=["learned", "butterfly", "identity"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "release")
        shutil.copytree(chosen.source or _source(Path(scratch)), source)
        (source / "tests" / "__init__.py").touch()  # which the release leaves out, and its tests need
        stock = _run(source, chosen.files, "", Path(scratch, "stock.jsonl"))
        mixed = _run(source, chosen.files, json.dumps({"mixer": chosen.mixer}), Path(scratch, "mixed.jsonl"))
    print(f"{'':12}{'passed':>8}{'skipped':>8}{'failed':>8}")
    for name, results in (("stock LoRA", stock), (chosen.mixer, mixed)):
        counts = collections.Counter(outcome for outcome, _ in results.values())
        print(f"{name:12}{counts['passed']:8}{counts['skipped']:8}{counts['failed']:8}")
    lost = {name: told for name, (outcome, told) in mixed.items() if outcome == "failed" and stock[name][0] == "passed"}
    # What of a refusal names this or that layer is one reason.
    lost = {name: re.sub(r"matches others: .*", "matches others", told) for name, told in lost.items()}
    reasons = collections.Counter(lost.values())
    print(f"\npass with stock LoRA and not with the mixer: {len(lost)}")
    for told, count in reasons.most_common():
        first = next(name for name, reason in lost.items() if reason == told)
        print(f"{count:5}  {told[:160]}\n       as in {first}")


if __name__ == "__main__":
    main()
