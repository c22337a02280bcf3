"""Nothing goes to the hub unasked, without a token, or half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from moslora_xtuner.errors import ExportError, SetupError, UsageError
from moslora_xtuner.export.push import push, require_token


def test_without_a_token_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SetupError, match="needs a token"):
        require_token("me/model")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    require_token("me/model")
    for name in ("model", "a/b/c", "https://x/y"):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            require_token(name)


def test_what_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    api = huggingface_hub.HfApi
    monkeypatch.setattr(api, "create_repo", lambda self, repo, **o: asked.append((repo, o)) or f"https://hub/{repo}")
    monkeypatch.setattr(api, "upload_folder", lambda self, **o: asked.append(("", o)))
    assert push(tmp_path, "me/model") == "https://hub/me/model"
    assert asked[0] == ("me/model", {"private": True, "exist_ok": True})
    assert asked[1][1]["folder_path"] == tmp_path

    def refused(self: Any, **_: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(api, "upload_folder", refused)
    with pytest.raises(ExportError, match=r"is whole and stays; the hub did not take it \(no route\)"):
        push(tmp_path, "me/model")
