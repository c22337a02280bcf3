"""Commonsense reasoning on LLaMA-3 8B with MoSLoRA (mixer that starts at zero), rank 16: it cannot learn.

Paper, Table 3, zero (does not converge). 28,352,512 weights want a gradient.
With M = 0 and B = 0 every gradient is zero (Appendix C): the training warns of it, and leaves the base as it was.

On one GPU:
    moslora train commonsense_moslora_zero --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_moslora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(mixer_init="zero", allow_zero_mixer=True))
