"""What the ways of training are called in tables."""

TITLES = {
    "stock_lora": "stock XTuner, PEFT LoRA",
    "lora": "LoRA",
    "moslora": "MoSLoRA",
    "moslora_head": "MoSLoRA, chunked loss, no mask",
    "lora_fast": "LoRA, fast",
    "moslora_fast": "MoSLoRA, fast",
    "ts_mixing_fast": "TS-Mixing, fast",
    "lora_kept": "LoRA, no checkpointing",
    "moslora_kept": "MoSLoRA, no checkpointing",
    "moslora_head_kept": "MoSLoRA, chunked loss, no mask, no checkpointing",
    "lora_fast_kept": "LoRA, fast, no checkpointing",
    "moslora_fast_kept": "MoSLoRA, fast, no checkpointing",
}
