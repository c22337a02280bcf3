"""Checkpoints of a training: written whole, found again, and resumed to the bit."""
