"""What the ways of training are called in tables."""

TITLES = {
    "stock_lora": "stock XTuner, PEFT LoRA",
    "lora": "LoRA",
    "moslora": "MoSLoRA",
    "lora_fast": "LoRA, fast",
    "moslora_fast": "MoSLoRA, fast",
    "lora_kept": "LoRA, no checkpointing",
    "moslora_kept": "MoSLoRA, no checkpointing",
    "moslora_fast_kept": "MoSLoRA, fast, no checkpointing",
}
