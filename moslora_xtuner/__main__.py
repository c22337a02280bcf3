"""The command `moslora`, also as `python -m moslora_xtuner`."""

from __future__ import annotations

import sys

from .errors import SetupError

NEEDS = ("typer", "click", "rich")
"""What the command line is made of; the adapter alone is installed without it."""


def main() -> None:
    """Run the command line, or say what to install when it is not there."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in NEEDS:
            raise
        sys.stderr.write(
            f"error: the command needs {missing.name!r}, which the adapter alone does not: "
            "run 'pip install \"moslora-xtuner[cli]\"', or 'bash scripts/install.sh' in a clone for all of it\n"
        )
        sys.exit(SetupError.exit_code)
    run()


if __name__ == "__main__":
    main()
