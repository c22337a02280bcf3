"""Commonsense reasoning on LLaMA-3 8B with MoSLoRA (normal mixer), rank 16.

Paper, Table 3, normal. 28,352,512 weights are trained.
The paper gives no deviation; ours is 1/r, and mixer_init="normal_unit" takes 1 (docs/adapter.md).

On one GPU:
    moslora train commonsense_moslora_normal --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(mixer_init="normal"))
