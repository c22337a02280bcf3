"""Commonsense reasoning on LLaMA-3 8B with FLoRA, rank 16.

Paper, Table 4, FLoRA. 28,352,512 weights are trained.
On linear layers it is MoSLoRA with another start: the core is zero, and both factors are drawn (Si et al. 2024).

On one GPU:
    moslora train commonsense_flora --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(mixer_init="flora"))
