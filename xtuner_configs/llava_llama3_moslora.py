"""LLaVA-1.5 on LLaMA-3 8B with MoSLoRA (orthogonal mixer) on the language model and the visual encoder.

Paper, Table 5, row 2.

On four GPUs:
    NPROC_PER_NODE=4 xtuner train llava_llama3_moslora.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables (`_base_/llama3_8b.py` names them and their defaults). The paper's
run took about 20 hours on four A100 of 80 GB.
Memory: 27 GiB of each of 4 GPUs where 8 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_llama3_moslora --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./llava_llama3_lora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(
    llm_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
    visual_encoder_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
)
