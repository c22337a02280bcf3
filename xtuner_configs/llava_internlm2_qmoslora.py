"""LLaVA-1.5 on InternLM2-Chat 7B in 4 bits with QMoSLoRA (orthogonal mixer), MoSLoRA on the visual encoder.

Paper, Table 5, row 5.

On four GPUs:
    NPROC_PER_NODE=4 xtuner train llava_internlm2_qmoslora.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables (`_base_/internlm2_7b.py` names them and their defaults). The
paper's run took about 20 hours on four A100 of 80 GB.
Memory: 31 GiB of each of 4 GPUs where 16 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_internlm2_qmoslora --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./llava_internlm2_qlora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(
    llm_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
    # Take this line out for the authors' config, whose visual encoder has plain LoRA; the paper has mixers on both.
    visual_encoder_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
)
