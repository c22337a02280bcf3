"""What is found, what is needed and how to mend it, in one message."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from moslora_xtuner import versions
from moslora_xtuner.errors import SetupError

GOOD = {"xtuner": "0.2.0", "mmengine": "0.10.6", "transformers": "4.48.0", "peft": "0.17.1", "deepspeed": "0.17.5"}


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> None:
    monkeypatch.setattr(versions, "installed", {**GOOD, **changes}.get)


def test_this_environment_fits() -> None:
    assert versions.version_problems() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xtuner": "0.1.23"}, "xtuner 0.1.23, 0.2.0 is needed"),
        ({"transformers": "5.0.0"}, "transformers 5.0.0, 4.48.0 is needed"),
        ({"mmengine": None}, "mmengine is missing, 0.10.6 is needed"),
        ({"deepspeed": "0.17.6"}, "deepspeed 0.17.6, at least 0.16.2 and below 0.17.6 is needed"),
        ({"deepspeed": "0.16.1"}, "deepspeed 0.16.1, at least"),
        ({"deepspeed": None}, "deepspeed is missing, at least"),
        ({"peft": "0.16.0"}, "peft 0.16.0, at least 0.17 and below 0.19"),
        ({"peft": "0.19.0"}, "peft 0.19.0"),
    ],
)
def test_names_found_and_needed(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], message: str) -> None:
    pretend(monkeypatch, **changes)
    assert len(versions.version_problems()) == 1
    with pytest.raises(SetupError, match="do not fit together") as fault:
        versions.check_versions()
    assert message in str(fault.value)
    assert "scripts/install.sh" in str(fault.value)


@pytest.mark.parametrize(
    "changes", [{}, {"peft": "0.17.0"}, {"peft": "0.18.1"}, {"deepspeed": "0.16.2"}, {"deepspeed": "0.17.5+cu130"}]
)
def test_accepts_what_is_known_to_work(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None]) -> None:
    pretend(monkeypatch, **changes)
    versions.check_versions()


def test_all_problems_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, **dict.fromkeys(GOOD))
    assert len(versions.version_problems()) == len(GOOD)


def test_the_manifest_holds_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions.installed_versions()
    assert found["torch"] == version("torch")
    assert found["xtuner"] == version("xtuner")
    assert set(found) == {"moslora-xtuner", "python", *versions.RECORDED}
    pretend(monkeypatch)
    assert "torch" not in versions.installed_versions()
