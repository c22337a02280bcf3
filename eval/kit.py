"""VLMEvalKit as installed: imported once and quietly, its dataset classes on local TSV files.

What it does silently stops here: a download because of another md5, a global change of SSL checks and of
logging at import, judges that fall back to exact matching, stale scoring files.
"""

from __future__ import annotations

import logging
import os
import string
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError, SetupError

from .benchmarks import Benchmark
from .prompts import is_blank, options
from .verdicts import AnyJudge

INSTALL = 'Install it with `pip install "moslora-xtuner[eval]"` and then `pip install --no-deps ms-vlmeval==0.0.20`.'
OFFSET = 1_000_000  # rotation k of question i has the index i + k * OFFSET


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
        handle.close()
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


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
def scratch_table() -> Iterator[None]:
    """Give the circular evaluation a scratch file of its own, and take it away again.

    Work-around: ms-vlmeval 0.0.20 (dataset/utils/multiple_choice.py, mcq_circular_eval) writes /tmp/SECOND.xlsx,
    reads it back and leaves it, so two evaluations in one second would read each other's table. It can go when
    that path is no longer made from `timestr`.
    """
    from vlmeval.dataset.utils import multiple_choice

    stock = multiple_choice.timestr
    with tempfile.TemporaryDirectory(prefix="moslora-") as folder:
        multiple_choice.timestr = lambda: f"..{folder}/circular"
        try:
            yield
        finally:
            multiple_choice.timestr = stock


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """VLMEvalKit's imports turn certificate checks and gradients off for the whole process and add a log handler."""
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


def import_datasets(log: Path) -> Any:
    """Import `vlmeval.dataset`, its chatter into `log`. Raises SetupError when it is not installed."""
    with _left_as_it_was(), captured(log, streams=False):
        import vlmeval.dataset as datasets
    return datasets


def import_program() -> Any:
    """Import VLMEvalKit's run.py, its chatter left to be seen. Raises SetupError when it is not installed."""
    with _left_as_it_was():
        import vlmeval.run as run
    return run


def tsv_path(benchmark: Benchmark, data_root: Path) -> Path:
    """Where a benchmark's TSV stands. Raises DataError when it is not there: nothing is downloaded."""
    path = data_root / f"{benchmark.dataset}.tsv"
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Put the TSV of {benchmark.dataset} there, or name another folder with "
            "--data-root (or LMUData). Nothing is downloaded without being asked for (--download)."
        )
    return path


def _read_tsv(path: Path) -> Any:
    """The table as VLMEvalKit reads it, except that texts stay texts.

    pandas would make 3.0 of the option 3 in a column with gaps, and the model would be asked about "3.0".
    """
    import pandas

    texts = [*string.ascii_uppercase, "question", "answer", "hint", "category", "l2-category", "image_path"]
    try:
        frame = pandas.read_csv(path, sep="\t", dtype=dict.fromkeys(texts, str))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error
    missing = [name for name in ("index", "question") if name not in frame]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: it is no table of VLMEvalKit.")
    if frame["index"].duplicated().any():
        twice = frame["index"][frame["index"].duplicated()].iloc[0]
        raise DataError(f"{path} holds the index {twice} twice.")
    if not frame.shape[0]:
        raise DataError(f"{path} holds no question.")
    return frame


def build_dataset(benchmark: Benchmark, data_root: Path, log: Path) -> Any:
    """`local_dataset` with VLMEvalKit's chatter in `log`."""
    import_datasets(log)
    with captured(log):
        return local_dataset(benchmark, data_root)


def local_dataset(benchmark: Benchmark, data_root: Path) -> Any:
    """VLMEvalKit's own dataset object for a benchmark, reading the local TSV and nothing else.

    A subclass that changes `load_data` alone (as VLMEvalKit's CustomMCQDataset does): prompts that need
    it, images and all scoring are VLMEvalKit's. Raises DataError for a missing or broken TSV.
    """
    import vlmeval.dataset as datasets

    path = tsv_path(benchmark, data_root)
    base = getattr(datasets, benchmark.vlmeval_class)
    own = {"load_data": lambda self, name: _read_tsv(path)}
    local = type(f"Local{benchmark.vlmeval_class}", (base,), own)
    with environment(LMUData=str(data_root)):
        try:
            dataset = local(benchmark.dataset)
        except (AssertionError, KeyError) as error:
            raise DataError(
                f"{path}: VLMEvalKit cannot use this table ({type(error).__name__}: {error}); an `image` "
                "cell must hold base64 text or the index of a row that does."
            ) from error
    if benchmark.circular and not all(isinstance(index, int) for index in dataset.data["index"]):
        raise DataError(f"{path}: circular evaluation needs whole numbers in the column `index`.")
    return dataset


def has_answers(dataset: Any) -> bool:
    """Tell whether the answers are in the table, or held back."""
    return "answer" in dataset.data and not all(is_blank(value) for value in dataset.data["answer"])


def unanswerable(benchmark: Benchmark, dataset: Any) -> int:
    """How many questions nobody can answer rightly: the answer is missing, or names none of the options.

    VLMEvalKit counts them as wrong.
    """
    rows = dataset.data.drop(columns=["image"], errors="ignore").to_dict("records")
    if benchmark.kind != "mcq":
        return sum(is_blank(row["answer"]) for row in rows)
    return sum(str(row["answer"]) not in options(row) for row in rows)


UNREADABLE = "Z"
"""VLMEvalKit's letter for no option."""


class _NoDice:
    """Stands in for `random` where VLMEvalKit draws an option for a judge's answers that it cannot read."""

    @staticmethod
    def choice(options: object) -> str:
        """No option, whatever there is to choose from."""
        return UNREADABLE


@contextmanager
def judged_by(judge: AnyJudge | None) -> Iterator[None]:
    """Let VLMEvalKit's scoring ask this judge wherever it would build one of its own.

    WORK-AROUND vlmeval (dataset/utils/multiple_choice.py, extract_answer_from_item): after three answers of the judge
    that name no option, one is drawn at random and scored. Here it is none, the same in every run, and counted. Can go
    when it is no longer drawn.
    """
    with ExitStack() as stack:
        if judge is not None:
            modules = [m for name, m in list(sys.modules.items()) if name.startswith("vlmeval.dataset")]
            for module in modules:
                if "build_judge" in vars(module):
                    stack.enter_context(_replaced(module, "build_judge", lambda **_: judge))
            stack.enter_context(_replaced(sys.modules["vlmeval.dataset.utils.multiple_choice"], "rd", _NoDice))
        yield


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
