"""What `moslora plan` knows before a GPU-hour is spent: checks, counts, memory and time."""
