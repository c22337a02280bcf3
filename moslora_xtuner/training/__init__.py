"""What happens around XTuner's training loop: its launch, its guards and what it leaves behind."""
