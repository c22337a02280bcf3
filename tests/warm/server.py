"""`python tests/warm/server.py SOCKET ROOM`: imports the libraries once and forks a process for each start.

tests/warm/sitecustomize.py asks it, and says what that is for. It imports at the first request, and ends when its
parent does. ROOM is any long word: the words of a fork are written over it, so that it is found under them.
All forks share one seed of Python's hashes: what depends on the order of a set shows only in cold starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import sitecustomize

LIBRARIES = (
    "torch", "torch.distributed.run", "numpy", "pandas", "PIL.Image", "safetensors.torch", "datasets", "peft",
    "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.image_processing_clip",
    "transformers.trainer", "mmengine.runner", "deepspeed", "xtuner.tools.train",
)  # fmt: skip
"""What the programs spend their start on; none of it is ours."""


def main(address: str) -> dict[str, Any]:
    """Serve until the parent ends; returns in a fork alone, with what was asked of it."""
    parent = os.getppid()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(address)
    listening.listen(128)
    ready = selectors.DefaultSelector()
    ready.register(listening, selectors.EVENT_READ, None)
    imported = sitecustomize.settings(dict(os.environ))
    warm = False
    while os.getppid() == parent:
        for key, _ in ready.select(timeout=5):
            if key.data is not None:  # a fork has ended, or the process that stands for it
                if key.fd in ready.get_map():
                    _finish(ready, *key.data)
                continue
            connection, _ = listening.accept()
            if not warm:
                _import()
                warm = True
            request = _read(connection)
            fits = request is not None and sitecustomize.settings(request["environment"]) == imported
            fork = os.fork() if fits else None
            if fork == 0:
                assert request is not None
                return request
            for descriptor in request["descriptors"] if request else ():
                os.close(descriptor)
            if fork is None:
                connection.close()
                continue
            with contextlib.suppress(OSError):
                connection.sendall(f"{fork}\n".encode())
            handle = os.pidfd_open(fork)
            for watched in (handle, connection):
                ready.register(watched, selectors.EVENT_READ, (fork, handle, connection))
    sys.exit()


def _import() -> None:
    """Import the libraries; what they print is of no test."""
    said = os.dup(1), os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # the adapter is also tested where there is no XTuner
            __import__(name)
    for number, before in enumerate(said, 1):
        os.dup2(before, number)
        os.close(before)
    os.close(nothing)
    gc.collect()
    gc.freeze()


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """The request with its open files; None of a process that has ended."""
    size, descriptors, _, _ = socket.recv_fds(connection, 8, sitecustomize.FILES)
    said = b""
    while len(said) < int.from_bytes(size, "big"):
        said += (more := connection.recv(1 << 20))
        if not more:
            break
    else:
        if said:
            return {**json.loads(said), "descriptors": descriptors}
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _finish(ready: selectors.BaseSelector, fork: int, handle: int, connection: socket.socket) -> None:
    """Tell how a fork ended; end it where nobody stands for it any more: then it was killed."""
    if os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        os.kill(fork, signal.SIGKILL)
    _, status = os.waitpid(fork, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    for watched in (handle, connection):
        ready.unregister(watched)
    os.close(handle)
    connection.close()


def become(request: dict[str, Any]) -> list[str]:
    """Take the place that the start would have had: files, folder, environment, limits, name; returns its words."""
    _take(dict(zip(request["files"], request["descriptors"], strict=True)))
    with contextlib.suppress(PermissionError):  # of another session: signals to its group reach who stands for us
        os.setpgid(0, request["group"])
    for number, heeded in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else heeded)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for name, limits in request["limits"].items():
        resource.setrlimit(getattr(resource, name), tuple(limits))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or stream.isatty(), write_through=request["unbuffered"])
    if said := os.environ.get("PYTHONWARNINGS"):
        warnings._processoptions(said.split(","))  # type: ignore[attr-defined]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[1:] = [*paths, *(path for path in sys.path[1:] if path not in paths)]
    import numpy
    import torch

    numpy.random.seed()  # as at a start of its own
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    stands = Path(f"/proc/{request['process']}/stat")
    os.getppid = lambda: int(stands.read_text().rpartition(")")[2].split()[1])
    _name([sys.executable, *request["words"]])
    sitecustomize.further()
    return request["words"]


def _take(wanted: dict[int, int]) -> None:
    """Have these files under these numbers, and no other file of the server's."""
    high = {number: os.dup(descriptor) for number, descriptor in wanted.items()}
    while any(copy in wanted for copy in high.values()):
        high = {number: os.dup(copy) for number, copy in high.items()}
    for number, copy in high.items():
        os.dup2(copy, number)
        os.set_inheritable(number, True)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in wanted:
            with contextlib.suppress(OSError):
                os.close(number)


def _name(words: list[str]) -> None:
    """Be found under one's own words in /proc and `ps`."""
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    said = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
    ctypes.memmove(start, said.ljust(end - start, b"\0"), end - start)


def run(words: list[str]) -> None:
    """What `python WORDS` runs."""
    import runpy
    import types

    if words[0] == "-m":
        sys.argv[:] = words[1:]
        sys.path[0] = os.getcwd()
        runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv[:] = ["-c", *words[2:]]
        sys.path[0] = ""
        exec(words[1], main.__dict__)
        return
    sys.argv[:] = words
    sys.path[0] = os.path.dirname(os.path.realpath(words[0]))
    main.__file__ = words[0]
    exec(compile(Path(words[0]).read_bytes(), words[0], "exec"), main.__dict__)


if __name__ == "__main__":
    run(become(main(sys.argv[1])))
