"""Take the folder of a reproduction: made with other settings, its rows could not be compared.

    python scripts/reproduce/begin.py DIR NAME=VALUE...

Values that are paths are compared as absolute ones; names of a hub stay what they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from moslora_xtuner.errors import OutputError
from moslora_xtuner.output import claim

KIND = "table 5"
HUB = ("LLAMA3_8B", "INTERNLM2_7B", "CLIP_L_336")
PATHS = (
    "LLAVA_MIX", "LLAVA_IMAGES", "LLAMA3_STORE", "LLAMA3_PROJECTOR", "INTERNLM2_STORE", "INTERNLM2_PROJECTOR",
)  # fmt: skip


def settings(words: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a table, paths resolved."""
    found = dict(word.split("=", 1) for word in words)
    for name, value in found.items():
        if name in PATHS or (name in HUB and Path(value).exists()):
            found[name] = str(Path(value).resolve())
    return found


def main() -> None:
    """Claim the folder, or say why not."""
    try:
        claim(Path(sys.argv[1]), KIND, settings(sys.argv[2:]))
    except OutputError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None


if __name__ == "__main__":
    main()
