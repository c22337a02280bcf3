"""An export on its way to the hub, when it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ExportError, SetupError, UsageError


def require_token(repo: str) -> None:
    """Stop before anything is made for a name that is none, or without a token.

    Raises:
        UsageError: the name is no OWNER/NAME.
        SetupError: nobody is logged in.
    """
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"--push {repo}: give the hub's OWNER/NAME")
    if not get_token():
        raise SetupError("--push needs a token of the hub: `huggingface-cli login`, or set HF_TOKEN")


def push(folder: Path, repo: str) -> str:
    """Upload a folder as a private model, and return its address. Raises ExportError when the hub does not take it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        address = hub.create_repo(repo, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, ignore_patterns=[".moslora.json"])
    except (HfHubHTTPError, OSError, ValueError) as fault:
        raise ExportError(
            f"{folder} is whole and stays; the hub did not take it ({str(fault).splitlines()[0]}): push it again"
        ) from fault
    return str(address)
