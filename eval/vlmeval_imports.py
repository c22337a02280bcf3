"""VLMEvalKit imported quietly: its chatter in a log, and nothing of this process changed by its import."""

from __future__ import annotations

import logging
import os
import sys
from ast import literal_eval
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import SetupError

INSTALL = 'Install it with `pip install "moslora-xtuner[eval]"` and then `pip install --no-deps ms-vlmeval==0.0.20`.'


@contextmanager
def captured(log: Path, *, streams: bool = True) -> Iterator[None]:
    """Send all that this process and its children print into `log`.

    At the level of file descriptors, and (`streams`) of sys.stdout and sys.stderr where these are not 1 and
    2, as in a notebook. Not so around imports: log handlers made there would keep a file that is closed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    handle = log.open("a", encoding="utf-8", buffering=1)
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
    try:
        with ExitStack() as stack:
            if streams:
                stack.enter_context(redirect_stdout(handle))
                stack.enter_context(redirect_stderr(handle))
            yield
    finally:
        for stream in (handle, sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # of a full disk; what is said of it must be seen
                stream.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        with suppress(OSError):
            handle.close()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """WORK-AROUND ms-vlmeval 0.0.20 (vlmeval/__init__.py): its import turns certificate checks and gradients off.

    For the whole process; and it adds a log handler. Can go when importing changes nothing.
    """
    import ssl

    import torch

    context, handlers = ssl._create_default_https_context, list(logging.root.handlers)
    gradients = torch.is_grad_enabled()
    try:
        yield
    except ImportError as error:
        raise SetupError(f"VLMEvalKit cannot be imported ({error}). {INSTALL}") from error
    finally:
        ssl._create_default_https_context = context
        logging.root.handlers[:] = handlers
        torch.set_grad_enabled(gradients)


def _value(text: Any, *_: Any) -> Any:
    """What stands in for `eval` inside VLMEvalKit: the value that a text writes out, and nothing that it would do."""
    if not isinstance(text, str):
        raise TypeError(f"a {type(text).__name__} is no text to be read as a value")
    return literal_eval(text.strip())


class _Closed(MetaPathFinder):
    """Finds VLMEvalKit's modules as Python does, and gives each its own `eval` before any of it runs."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """For modules of that package alone."""
        if name.partition(".")[0] != "vlmeval" or (spec := PathFinder.find_spec(name, path, target)) is None:
            return None
        if spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                vars(module)["eval"] = _value
                run(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def cells_are_values() -> None:
    """WORK-AROUND ms-vlmeval 0.0.20 (smp/misc.py, dataset/utils/): it calls `eval` on the cells of a table.

    On `answer`, `image_path`, `choices` and wherever a list may stand, so that a table that somebody has downloaded
    can run anything. Inside its modules the name means `_value`. Can go when it parses what it reads.
    """
    if not any(isinstance(finder, _Closed) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Closed())
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "vlmeval":
            vars(module)["eval"] = _value


NEEDED: dict[str, tuple[str, ...]] = {
    "vlmeval.dataset": ("ImageMCQDataset", "ImageYORNDataset", "ImageVQADataset", "MathVista", "MMVet"),
    "vlmeval.dataset.image_base": ("ImageBaseDataset",),
    "vlmeval.dataset.utils.multiple_choice": ("can_infer", "rd", "timestr", "load", "mcq_circular_eval"),
    "vlmeval.dataset.utils.yorn": ("MME_rating", "YOrN_Extraction", "default_rating", "load"),
    "vlmeval.dataset.utils.vqa_eval": ("process_answer", "process_line"),
    "vlmeval.dataset.utils.mathvista": ("MathVista_acc", "MathVista_auxeval", "post_check"),
    "vlmeval.dataset.utils.mmvet": ("MMVet_acc", "MMVet_auxeval", "defaultdict"),
    "vlmeval.smp": ("load", "dump"),
    "vlmeval.utils": ("can_infer",),
}
"""What this package calls, patches or reads of VLMEvalKit, by module."""
_CALLED = {"ImageMCQDataset": "evaluate", "ImageYORNDataset": "evaluate", "ImageVQADataset": "evaluate"}


def import_datasets(log: Path) -> Any:
    """Import `vlmeval.dataset`, its chatter into `log`.

    Raises SetupError when it is not installed, or lacks what is relied on: after the last question would be too late.
    """
    cells_are_values()
    with _left_as_it_was(), captured(log, streams=False):
        import vlmeval.dataset as datasets

        lacking = list(_lacking())
    if lacking:
        raise SetupError(f"This VLMEvalKit lacks what is relied on here: {', '.join(lacking)}. {INSTALL}")
    return datasets


def _lacking() -> Iterator[str]:
    for name, wanted in NEEDED.items():
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise  # a package that it wants and that is not installed
            yield name
            continue
        for word in wanted:
            found = getattr(module, word, None)
            if found is None:
                yield f"{name}.{word}"
            elif word in _CALLED and not hasattr(found, _CALLED[word]):
                yield f"{name}.{word}.{_CALLED[word]}"


def import_program() -> Any:
    """Import VLMEvalKit's run.py, its chatter left to be seen. Raises SetupError when it is not installed."""
    cells_are_values()
    with _left_as_it_was():
        import vlmeval.run as run
    return run


def judges_of(types: Mapping[str, str], log: Path) -> dict[str, str]:
    """Whom VLMEvalKit's run.py has judge each dataset, by its name and its class's type, where nobody is named.

    Empty where this VLMEvalKit does not say: a list is no reason to stop.
    """
    with captured(log, streams=False):
        run = import_program()
    before = sys.argv
    found = {}
    try:
        sys.argv = ["run.py", "--data", "x", "--model", "x"]
        options = run.parse_args()
        for name, kind in types.items():
            judge = run.get_judge_kwargs(name, kind, options).get("model")
            if judge is not None and judge != "exact_matching":
                found[name] = str(judge)
    except (AttributeError, TypeError, SystemExit):
        return {}
    finally:
        sys.argv = before
    return found
