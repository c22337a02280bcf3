"""Take the folder of a reproduction: made with other settings, its rows could not be compared.

    python scripts/reproduce/begin.py [--paths NAME,...] [--hub NAME,...] -- DIR KIND NAME=VALUE...

Values that are paths are compared as absolute ones; names of a hub (`--hub`, where no such folder is) stay what they
are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container
from pathlib import Path

from moslora_xtuner.errors import OutputError
from moslora_xtuner.output import claim


def settings(words: list[str], paths: Container[str], hub: Container[str]) -> dict[str, str]:
    """NAME=VALUE words as a table, paths resolved."""
    found = dict(word.split("=", 1) for word in words)
    for name, value in found.items():
        if name in paths or (name in hub and Path(value).exists()):
            found[name] = str(Path(value).resolve())
    return found


def main() -> None:
    """Claim the folder, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind")
    parser.add_argument("--paths", default="")
    parser.add_argument("--hub", default="")
    parser.add_argument("settings", nargs="*")
    args = parser.parse_args()
    try:
        claim(args.folder, args.kind, settings(args.settings, args.paths.split(","), args.hub.split(",")))
    except OutputError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None


if __name__ == "__main__":
    main()
