"""DigitsVQA with MoSLoRA on the language model and on the visual encoder.

    moslora data digits -o data/digits
    NPROC_PER_NODE=2 xtuner train xtuner_configs/digits_moslora.py --deepspeed zero2

Two processes, with or without a GPU. Three to four minutes on two cores.
"""

_base_ = ["./_base_/digits.py"]

model = dict(
    llm_lora=dict(
        type="moslora_xtuner.adapters.MosLoraConfig",
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        mixer="learned",
        mixer_init="orthogonal",
    ),
    visual_encoder_lora=dict(
        type="moslora_xtuner.adapters.MosLoraConfig",
        r=16,
        lora_alpha=16,
        lora_dropout=0.0,
        bias="none",
        target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
        mixer="learned",
        mixer_init="orthogonal",
    ),
)
