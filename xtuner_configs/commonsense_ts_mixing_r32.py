"""Commonsense reasoning on LLaMA-3 8B with TS-Mixing (fixed butterfly mixer), rank 32.

Paper, Table 1, two-subspaces mixing of rank 32. 56,623,104 weights are trained.
The paper gives no alpha for it; 64 keeps the scale of rank 16.

On one GPU:
    moslora train commonsense_ts_mixing_r32 --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_ts_mixing.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(r=32, lora_alpha=64))
