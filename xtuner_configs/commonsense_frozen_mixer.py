"""Commonsense reasoning on LLaMA-3 8B with LoRA and a mixer that stays as it was drawn, rank 16.

A control of our own, not in the paper: what of MoSLoRA's gain is the learning of the mixer.
28,311,552 weights are trained.

On one GPU:
    moslora train commonsense_frozen_mixer --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(freeze_mixer=True))
