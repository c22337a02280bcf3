"""Commonsense reasoning on LLaMA-3 8B with TS-Mixing (fixed butterfly mixer), rank 16.

Paper, Table 1, two-subspaces mixing of rank 16. 28,311,552 weights are trained.

On one GPU:
    moslora train commonsense_ts_mixing --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_lora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="butterfly"))
