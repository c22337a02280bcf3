"""Ask exports in vLLM, in this process; nothing of this project is imported.

python ask_vllm.py JOBS QUESTIONS OUT
"""

from __future__ import annotations

import base64
import gc
import json
import sys
from pathlib import Path
from typing import Any

import vllm
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest


def ask(job: dict[str, Any], folder: Path, new_tokens: int) -> dict[str, Any]:
    """The answers."""
    options: dict[str, Any] = {"enable_lora": True, "max_lora_rank": job["rank"]} if job.get("adapter") else {}
    model = LLM(
        model=job["model"],
        dtype=job["dtype"],
        enforce_eager=True,
        max_model_len=512,
        limit_mm_per_prompt={"image": 1},
        **options,
    )
    asked = []
    for question in json.loads((folder / "questions.json").read_text(encoding="utf-8")):
        picture = folder / question["picture"]
        kind = "jpeg" if picture.suffix == ".jpg" else "png"
        url = f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question["question"]},
        ]
        asked.append([{"role": "user", "content": content}])
    lora = LoRARequest("tuned", 1, job["adapter"]) if job.get("adapter") else None
    found = model.chat(asked, SamplingParams(temperature=0, max_tokens=new_tokens), lora_request=lora, use_tqdm=False)
    answers = [one.outputs[0].text.strip() for one in found]
    del model
    gc.collect()
    return {"answers": answers}


def main() -> None:
    """Every job of a file."""
    jobs, folder, out = map(Path, sys.argv[1:])
    found: dict[str, Any] = {"engine": f"vLLM {vllm.__version__}"}
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        found[job["name"]] = ask(job, folder, job["new_tokens"])
        out.write_text(json.dumps(found), encoding="utf-8")
        print(job["name"], "asked", flush=True)


if __name__ == "__main__":
    main()
