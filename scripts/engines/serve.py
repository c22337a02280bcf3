"""`moslora serve` on an export in each form, asked over HTTP by the openai client and by `moslora ask`.

python scripts/engines/serve.py FOLDER
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MODEL = "llama-fp32"
PATIENCE = 600


def free_port() -> int:
    """One of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(client: Any, name: str, folder: Path, question: dict[str, str], tokens: int) -> str:
    """One answer, as a program of somebody else asks for it."""
    picture = folder / question["picture"]
    kind = "jpeg" if picture.suffix == ".jpg" else "png"
    url = f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question["question"]}]
    found = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=tokens
    )
    return str(found.choices[0].message.content).strip()


def main() -> int:
    """Both forms; 1 when an answer is another or something goes on running."""
    from openai import OpenAI

    root = Path(sys.argv[1])
    truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))[MODEL]["answers"]
    questions = json.loads((root / "questions" / "questions.json").read_text(encoding="utf-8"))
    rows: dict[str, Any] = {"engine": "moslora serve (vLLM over HTTP)"}
    for form in ("hf", "lora"):
        port, name = free_port(), f"digits-{form}"
        words = [sys.executable, "-m", "moslora_xtuner", "serve", str(root / "exports" / f"{MODEL}-{form}")]
        words += ["--port", str(port), "--name", name, "--enforce-eager"]
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
        log = root / f"serve-{form}.log"
        with log.open("w") as file:
            server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)
        assert server.stdout is not None
        begun = time.monotonic()
        for line in server.stdout:
            if line.startswith("try:"):
                break
        else:
            print(log.read_text(encoding="utf-8")[-3000:], file=sys.stderr)
            return 1
        print(f"{form}: serving after {time.monotonic() - begun:.0f} s", flush=True)
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=PATIENCE)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda q, c=client, n=name: asked(c, n, root / "questions", q, 8), questions))
        rows[f"{MODEL}-{form}"] = {"answers": answers}
        one = questions[0]
        by_word = subprocess.run(
            [sys.executable, "-m", "moslora_xtuner", "ask", f"openai:{name}@http://127.0.0.1:{port}/v1",
             str(root / "questions" / one["picture"]), one["question"], "--max-new-tokens", "8"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        with socket.socket() as after:
            gone = after.connect_ex(("127.0.0.1", port)) != 0
        same = sum(a == b for a, b in zip(truth, answers, strict=True))
        print(f"{form}: {same} of {len(truth)} answers are those of what was trained", flush=True)
        if same != len(truth) or by_word.stdout.strip() != truth[0] or not gone:
            print(f"error: {form}: {by_word.stdout!r} {truth[0]!r}, server gone: {gone}", file=sys.stderr)
            return 1
    (root / "answers-served.json").write_text(json.dumps(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
