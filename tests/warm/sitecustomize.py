"""A program that a test starts begins as a fork of a process that has imported the libraries already.

Python imports this file at every start, since tests/conftest.py puts this folder on PYTHONPATH. Importing torch,
transformers, mmengine, XTuner and DeepSpeed takes 12 to 16 s of a start on two cores, and a run of all tests has
hundreds of starts. What is started stays the real program with its real arguments, environment and files, as a process
of its own; only libraries are there before, none of our modules. tests/warm/server.py forks; this process stands for
the fork: it passes signals on, and ends as it ends.

Cold, as ever: with MOSLORA_COLD_STARTS=1, where no server listens, where the libraries would be imported under other
settings (COLD_IF_OTHER), and every program that is not named here.
"""

from __future__ import annotations

import os
import sys

ADDRESS = "MOSLORA_WARM_STARTS"
"""The environment's name for the socket at which the server listens."""
COLD = "MOSLORA_COLD_STARTS"
COLD_IF_OTHER = ("PYTHON", "HF_", "TRANSFORMERS_", "TORCH", "DS_", "XDG_", "HOME")
"""Libraries read variables that begin so when they are imported: with other values a start is cold."""
NOT_READ = (
    "TORCHELASTIC_", "TORCHINDUCTOR_", "TORCH_NCCL_", "TORCH_EXTENSIONS_", "TORCH_FORCE_",
    "PYTHONUNBUFFERED", "PYTHONWARNINGS",
    "PYTHONPATH",
)  # fmt: skip
"""Of those, what is read later, or done by the server for each fork."""
PROGRAMS = ("xtuner", "torchrun", "moslora")
MODULES = ("moslora_xtuner", "moslora_xtuner.eval.vlmevalkit", "torch.distributed.run")
WORKER = "from multiprocessing.spawn import spawn_main"
FILES = 250
"""How many open files can be passed on; SCM_RIGHTS takes 253."""


def settings(environment: dict[str, str]) -> dict[str, str]:
    """What of an environment decides how the libraries are imported."""
    return {k: v for k, v in environment.items() if k.startswith(COLD_IF_OTHER) and not k.startswith(NOT_READ)}


def is_ours(words: list[str]) -> bool:
    """Whether the words after `python` start a program that may begin as a fork."""
    if words[:1] in (["-m"], ["-c"]):
        return len(words) > 1 and (words[1] in MODULES or words[1].startswith(WORKER))
    if not words or words[0].startswith("-"):
        return False
    path = os.path.realpath(words[0])
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    inside = path.startswith(tuple(os.path.join(root, name, "") for name in ("scripts", "tests")))
    tool = os.path.join("xtuner", "tools", "") in path
    return (path.endswith(".py") and (inside or tool)) or os.path.basename(path) in PROGRAMS


def stand_for(address: str, words: list[str], unbuffered: bool) -> None:
    """Ask for a fork, wait for its end and end likewise; returns only where there is none."""
    import json
    import resource
    import signal
    import socket
    import stat

    def is_file(number: int) -> bool:
        try:
            return not stat.S_ISDIR(os.fstat(number).st_mode)
        except OSError:  # the list of open files itself, which is closed again
            return False

    files = [number for number in map(int, os.listdir("/proc/self/fd")) if is_file(number)]
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_FSIZE", "RLIMIT_AS")}
    if len(files) > FILES:
        return
    request = {
        "words": words, "files": files, "limits": limits, "environment": dict(os.environ), "folder": os.getcwd(),
        "process": os.getpid(), "group": os.getpgrp(), "unbuffered": unbuffered,
        "ignored": [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_IGN],
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.connect(address)
        except OSError:
            return
        said = json.dumps(request).encode()
        socket.send_fds(server, [len(said).to_bytes(8, "big")], files)
        server.sendall(said)
        answers = server.makefile("r")
        started = json.loads(answers.readline() or "null")
        if not started:
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: os.kill(started, number))
        for number in files:
            os.close(number)  # the fork holds them: who waits for the end of a pipe waits for the fork
        status = json.loads(answers.readline() or "9")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def begin() -> None:
    """Stand for a fork, if this start may be one."""
    words = sys.orig_argv[1:]
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    while words[:1] in (["-u"], ["-B"]):  # the server has -B by its environment, as this process has
        unbuffered |= words[0] == "-u"
        words = words[1:]
    if os.environ.get(ADDRESS) and not os.environ.get(COLD) and is_ours(words):
        stand_for(os.environ[ADDRESS], words, unbuffered)


def further() -> None:
    """Run the sitecustomize of a test's own, further down PYTHONPATH: Python itself imports the first alone."""
    here = os.path.dirname(os.path.realpath(__file__))
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        path = os.path.join(folder, "sitecustomize.py")
        if os.path.realpath(folder) != here and os.path.isfile(path):
            with open(path) as file:
                exec(compile(file.read(), path, "exec"), {"__name__": "sitecustomize", "__file__": path})


if __name__ == "sitecustomize":
    begin()
    further()
