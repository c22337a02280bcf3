"""A small LLaMA with random weights and records of text, on which each recipe trains in seconds on a CPU."""

from __future__ import annotations

import json
import random
from importlib.resources import files
from pathlib import Path

RECORDS = 256
WIDTH = 128


def make_standin(folder: Path) -> dict[str, str]:
    """Write both, and return the environment variables that the recipes read."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from moslora_xtuner.data.prepare import prepare

    llm = folder / "llm"
    tokenizer = AutoTokenizer.from_pretrained(str(files("moslora_xtuner") / "assets" / "digits_base" / "llm"))
    tokenizer.save_pretrained(llm)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(llm)
    draw = random.Random(0)
    records = []
    for number in range(RECORDS):
        pair = draw.sample(("red", "green", "blue", "yellow"), 2)
        asked = f"Which of the two stands first? Solution1: {pair[0]}. Solution2: {pair[1]}."
        answer = f"the correct answer is solution{1 + (pair[0] > pair[1])}"
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
        records.append({"id": str(number), "conversations": turns})
    (folder / "train.json").write_text(json.dumps(records), encoding="utf-8")
    prepare(folder / "train.json", folder, llm, folder / "store", template="alpaca")
    return {"COMMONSENSE_LLM": str(llm), "COMMONSENSE_STORE": str(folder / "store")}
