"""Commonsense reasoning on LLaMA-3 8B with AdaLoRA, from rank 16 to 8 on average.

Paper, Table 4, AdaLoRA. 28,314,112 weights are trained.
The paper gives the first rank; what it falls to, and when, are PEFT's defaults. The hook AdaLoraBudget tells PEFT how
many steps the run has, and steps the budget.

On one GPU:
    moslora train commonsense_adalora --gpus 1
What it needs, and how it is scored: docs/commonsense.md. Where things are is said by environment variables, which
`_base_/commonsense.py` names.
"""

_base_ = ["./_base_/commonsense.py"]

model = dict(
    llm_lora=dict(
        type="peft.AdaLoraConfig",
        init_r=16,
        target_r=8,
        lora_alpha=32,
        lora_dropout=0.05,
        total_step=31_929,  # the hook puts in those of the run
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
    ),
)
