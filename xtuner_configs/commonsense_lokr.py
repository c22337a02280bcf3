"""Commonsense reasoning on LLaMA-3 8B with LoKr, rank 8.

Paper, Table 4, LoKr. 901,120 weights are trained, the 0.9M that the table prints.
Rank 8, not the 16 of Table 7: with 16 they would be 1,081,344. Alpha is as Table 7 prints; PEFT's default is 8, and
no count tells which was used. The method has no dropout of its input.

On one GPU:
    moslora train commonsense_lokr --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./_base_/commonsense.py"]

model = dict(
    llm_lora=dict(
        type="peft.LoKrConfig",
        r=8,
        alpha=32,
        decompose_both=False,
        decompose_factor=-1,
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
    ),
)
