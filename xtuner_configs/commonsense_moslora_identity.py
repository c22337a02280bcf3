"""Commonsense reasoning on LLaMA-3 8B with MoSLoRA (mixer that starts as the identity), rank 16.

Paper, Table 3, identity. 28,352,512 weights are trained.
The paper calls it identity; it starts where LoRA starts, and the mixer then learns.

On one GPU:
    moslora train commonsense_moslora_identity --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(mixer_init="identity"))
