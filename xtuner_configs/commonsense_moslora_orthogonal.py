"""Commonsense reasoning on LLaMA-3 8B with MoSLoRA (orthogonal mixer), rank 16.

Paper, Table 3, orthogonal. 28,352,512 weights are trained.

On one GPU:
    moslora train commonsense_moslora_orthogonal --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(mixer_init="orthogonal"))
