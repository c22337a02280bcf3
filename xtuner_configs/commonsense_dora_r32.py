"""Commonsense reasoning on LLaMA-3 8B with DoRA, rank 32.

Paper, Table 4, DoRA of rank 32. 57,409,536 weights are trained.
Table 7 gives it alpha 64. The table's two rows of DoRA are those of its authors, who tuned the base model and not
Instruct.

On one GPU:
    moslora train commonsense_dora_r32 --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_dora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(r=32, lora_alpha=64))
