"""LLaVA-1.5 on LLaMA-3 8B with LoRA on the language model and the visual encoder.

Paper, Table 5, row 1.

On four GPUs:
    NPROC_PER_NODE=4 xtuner train llava_llama3_lora.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables (`_base_/llama3_8b.py` names them and their defaults). The paper's
run took about 20 hours on four A100 of 80 GB.
Memory: 27 GiB of each of 4 GPUs where 8 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_llama3_lora --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./_base_/llama3_8b.py"]

model = dict(
    llm_lora=dict(
        type="peft.LoraConfig",
        r=64,
        lora_alpha=128,
        lora_dropout=0.05,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    visual_encoder_lora=dict(
        type="peft.LoraConfig",
        r=64,
        lora_alpha=16,
        lora_dropout=0.05,
        bias="none",
        target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    ),
)
