"""DigitsVQA with MoSLoRA on the language model and on the visual encoder.

    moslora data digits -o data/digits
    NPROC_PER_NODE=2 xtuner train xtuner_configs/digits_moslora.py --deepspeed zero2

Two processes, with or without a GPU. Three to four minutes on two cores.
"""

_base_ = ["./digits_lora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(
    llm_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
    visual_encoder_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="learned", mixer_init="orthogonal"),
)
