"""Commonsense reasoning on LLaMA-3 8B with LoRA, rank 16.

Paper, Table 4, LoRA; Table 1, LoRA of rank 16. 28,311,552 weights are trained.

On one GPU:
    moslora train commonsense_lora --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./_base_/commonsense.py"]

model = dict(
    llm_lora=dict(
        type="peft.LoraConfig",
        r=16,
        lora_alpha=32,
        lora_dropout=0.05,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
    ),
)
