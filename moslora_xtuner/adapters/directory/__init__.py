"""An adapter on disk: its files read, held to its config, folded into a plain LoRA."""
