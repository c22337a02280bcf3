"""Several trainings in one process, each by XTuner's own program: what it imports is imported once.

python tests/train_in_turn.py OUT NAME... -- KEY=VALUE...
"""

from __future__ import annotations

import sys
from pathlib import Path

from xtuner.tools import train as program

from moslora_xtuner.recipes.catalogue import resolve_config


def main() -> None:
    """Train each recipe into OUT/NAME; the first that fails ends it."""
    end = sys.argv.index("--")
    out, names, options = Path(sys.argv[1]), sys.argv[2:end], sys.argv[end + 1 :]
    for name in names:
        sys.argv[1:] = [str(resolve_config(name)), "--work-dir", str(out / name), "--cfg-options", *options]
        program.main()


if __name__ == "__main__":
    main()
