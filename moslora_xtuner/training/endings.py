"""Why a training ended, read from what its processes wrote: its first error, and what can be done about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_RANK = re.compile(r"^\[rank(\d+)\]: ?")
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s+File "([^"]+)", line (\d+), in (\S+)')
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$")
_LIKE_AN_ERROR = re.compile(r"(?:Error|Exception|Interrupt|Exit)$")
_CHAIN = re.compile(r"^(?:The above exception was the direct cause|During handling of the above)")
_OWN = "moslora_xtuner.errors."
_TORCHRUN = "torch.distributed.elastic."
_KILLED = re.compile(r"Signal \d+ \((SIG[A-Z]+)\) received by PID")
MEMORY = re.compile(
    r"\bMemoryError\b|out of memory|OutOfMemory|can't allocate memory|Cannot allocate memory|Unable to allocate \d"
    r"|_STATUS_ALLOC_FAILED|std::bad_alloc",
    re.IGNORECASE,
)
"""As Python, CUDA and its libraries, torch's allocator for the CPU, NumPy, C++ and the kernel say it."""
LESS = "take a smaller --batch-size with more optim_wrapper.accumulative_counts"
_ADVICE = (
    (re.compile(r"No space left on device|Disk quota exceeded"), "make room, then --resume auto"),
    (re.compile(r"Read-only file system|Permission denied"), "give a --work-dir that can be written to"),
    (
        re.compile(r"out of shared memory|unable to allocate shared memory|unable to mmap .* shared|/torch_\d+_"),
        "the data loader's workers need more /dev/shm; --cfg-options train_dataloader.num_workers=0 does without",
    ),
    (
        MEMORY,
        f"memory ran out: {LESS}, or fewer processes; `moslora plan` counts what a run needs",
    ),
    (re.compile(r"[Aa]ddress already in use"), "another program has the port: start again, or set another PORT"),
    (
        re.compile(r"safetensors_rust\.|SafetensorError|PytorchStreamReader|UnpicklingError|BadZipFile"),
        "a file of weights is damaged: `moslora plan` names it; download it again",
    ),
    (re.compile(r"zero_optimization|DeepSpeedConfig|deepspeed.*config", re.IGNORECASE), "see --deepspeed's file"),
)
"""What helps, by what an error says; the first that fits."""


def reason(lines: Sequence[str], status: int, starved: bool = False) -> str:
    """Why a training ended, in one line.

    Ranks that lost their peer fail too, later and with less to say: the first error is the cause. Of a chain of
    exceptions the last says it best, and an error of this package better than any other.

    Args:
        lines: the last ones that its processes wrote.
        status: of the program that was started; XTuner's hides that of the training.
        starved: whether the kernel has ended a process of this machine for want of memory meanwhile.
    """
    errors = list(_errors(lines))
    for error in errors:
        if error.startswith(_OWN):
            return error.removeprefix(_OWN)
    # What the others then say of their connection is no cause.
    for line in lines:
        if (found := _KILLED.search(line)) and found[1] != "SIGTERM":  # with that torchrun ends those that are left
            return f"a process was ended by {found[1]}: {_killer(found[1], starved)}"
    if errors:
        return _advised(errors[0])
    if starved:
        return f"the kernel ended a process: {_killer('SIGKILL', starved)}"
    if status:
        return f"exit status {status} and no error in its last lines"
    return "no error in its last lines: its process was killed from outside, or left without a word"


def _killer(signal: str, starved: bool) -> str:
    if starved:
        return "the machine ran out of memory (take fewer processes or a smaller --batch-size; `moslora plan` counts)"
    if signal == "SIGKILL":
        return "somebody ended it, or the machine ran out of memory (`dmesg` says which)"
    if signal == "SIGBUS":
        return "/dev/shm is full, or a mapped file was cut; train_dataloader.num_workers=0 needs no /dev/shm"
    return "a library of it crashed; the log has its last words"


def _advised(error: str) -> str:
    return next((f"{error}: {advice}" for pattern, advice in _ADVICE if pattern.search(error)), error)


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """The exceptions of the tracebacks, the last of each chain alone; those without a text with where they arose."""
    found: list[str] = []
    inside: dict[str, str] = {}  # process, while in its traceback: the last frame
    for line in lines:
        text = line.rstrip()
        rank = _RANK.match(text)
        process, text = (rank[1], text[rank.end() :]) if rank else ("", text)
        if _CHAIN.match(text):
            if found:
                found.pop()
        elif text.startswith(_TRACEBACK):
            inside[process] = ""
        elif frame := _FRAME.match(text):
            inside[process] = f"in {frame[3]}, {Path(frame[1]).name}:{frame[2]}"
        elif (said := _EXCEPTION.match(text.strip())) and not text.startswith(" "):
            name, words = said[1], (said[2] or "").strip()
            traced = inside.pop(process, None)
            if name.startswith(_TORCHRUN) or not (traced is not None or (_LIKE_AN_ERROR.search(name) and ":" in text)):
                continue
            found.append(f"{name}: {words}" if words else f"{name}, without a text{f', {traced}' if traced else ''}")
    yield from found


def kills_for_memory() -> int:
    """How many processes the kernel has ended for want of memory since the machine began; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
