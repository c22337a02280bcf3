"""What tests/warm/test_forks.py starts, warm and cold."""

import os
import sys
from pathlib import Path

BEFORE = "torch" in sys.modules and "xtuner" in sys.modules


def facts(*_: str) -> None:
    """Print what this process was given."""
    import json
    import resource

    import torch

    assert not [name for name in sys.modules if name.startswith("moslora_xtuner.")]
    given = {
        "imported": BEFORE,
        "argv": sys.argv,
        "folder": os.getcwd(),
        "input": "" if sys.stdin.isatty() else sys.stdin.read(),
        "files": sorted(os.listdir("/proc/self/fd"))[:3],
        "environment": dict(os.environ),
        "path": sys.path[:3],
        "name": __name__,
        "main": sys.modules["__main__"].__file__,
        "parent": os.getppid(),
        "limit": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
        "threads": torch.get_num_threads(),
        "words": Path("/proc/self/cmdline").read_text().rstrip("\0").split("\0"),
    }
    json.dump(given, sys.stdout)


def end(how: str) -> None:
    """End in a way of its own."""
    import signal

    print("before the end")
    if how == "three":
        sys.exit(3)
    if how == "words":
        sys.exit("no more")
    if how == "fault":
        raise ValueError("wrong")
    sys.stdout.flush()
    if how in ("killed", "terminated"):
        os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGTERM)


def wait(there: str) -> None:
    """Wait for a signal, and say which it was."""
    import signal
    import time

    def leave(number: int, frame: object) -> None:
        print("got", number)
        sys.exit(40)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, leave)
    Path(there).touch()
    while True:
        time.sleep(0.1)


if __name__ == "__main__":
    {"facts": facts, "end": end, "wait": wait}[sys.argv[1]](*sys.argv[2:])
