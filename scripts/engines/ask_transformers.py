"""Ask exports in stock transformers, as its documentation says; nothing of this project is imported.

python ask_transformers.py JOBS QUESTIONS OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers


def ask(job: dict[str, Any], folder: Path, new_tokens: int) -> dict[str, Any]:
    """The answers, the first question's logits, and what loading found missing or left over."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(job["model"])
    except ValueError as error:  # a release that cannot pad
        return {"stopped": str(error).split(". ")[0]}
    kind = getattr(torch, job["dtype"])
    model, report = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=kind, output_loading_info=True)
    left = {
        key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(key)
    }
    if job.get("adapter"):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
        found = model.load_adapter(job["adapter"], "again")
        left |= {"adapter": [*found.unexpected_keys, *(n for n in found.missing_keys if "lora" in n)]}
    model.eval()
    answers, first = [], None
    for question in json.loads((folder / "questions.json").read_text(encoding="utf-8")):
        content = [
            {"type": "image", "image": str(folder / question["picture"])},
            {"type": "text", "text": question["question"]},
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        inputs = inputs.to(model.device, kind)
        with torch.no_grad():
            if first is None:
                first = model(**inputs).logits[0, -1].float().tolist()
            made = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
        answers.append(processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return {"answers": answers, "logits": first, "left": {key: value for key, value in left.items() if value}}


def main() -> None:
    """Every job of a file."""
    jobs, folder, out = map(Path, sys.argv[1:])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found: dict[str, Any] = {"engine": f"transformers {transformers.__version__}"}
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        found[job["name"]] = ask(job, folder, job["new_tokens"])
        out.write_text(json.dumps(found), encoding="utf-8")
        print(job["name"], "asked", flush=True)


main()
