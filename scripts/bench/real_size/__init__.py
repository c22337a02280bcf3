"""Parts of `real_size.py`: checkpoints, cut ones, records, the clock inside a training, memory, the table."""
