"""LLaVA-1.5 on InternLM2-Chat 7B in 4 bits with QLoRA on the language model, LoRA on the visual encoder.

Paper, Table 5, row 4.

On four GPUs:
    NPROC_PER_NODE=4 xtuner train llava_internlm2_qlora.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables (`_base_/internlm2_7b.py` names them and their defaults). The
paper's run took about 20 hours on four A100 of 80 GB.
Memory: 31 GiB of each of 4 GPUs where 16 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_internlm2_qlora --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./_base_/internlm2_7b.py"]

model = dict(
    llm_lora=dict(
        type="peft.LoraConfig",
        r=512,
        lora_alpha=256,
        lora_dropout=0.05,
        bias="none",
        task_type="CAUSAL_LM",
        # q, k and v are one fused layer. The authors' run, by XTuner's search, also adapted the head, "output".
        target_modules=["wqkv", "wo", "w1", "w2", "w3"],
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
