"""Commonsense reasoning on LLaMA-3 8B with DoRA, rank 16.

Paper, Table 4, DoRA of rank 16. 29,097,984 weights are trained.
Table 7 gives it a rate of its own. The table's two rows of DoRA are those of its authors, who tuned the base model
and not Instruct.

On one GPU:
    moslora train commonsense_dora --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./commonsense_lora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(llm_lora=dict(use_dora=True))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
