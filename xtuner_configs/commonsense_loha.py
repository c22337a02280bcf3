"""Commonsense reasoning on LLaMA-3 8B with LoHa, rank 8.

Paper, Table 4, LoHa. 28,311,552 weights are trained, as the table prints.
Rank 8, not the 16 of Table 7: with 16 they would be 56,623,104. Alpha is as Table 7 prints; PEFT's default is 8, and
no count tells which was used. The method has no dropout of its input.

On one GPU:
    moslora train commonsense_loha --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./_base_/commonsense.py"]

model = dict(
    llm_lora=dict(
        type="peft.LoHaConfig",
        r=8,
        alpha=32,
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
    ),
)
