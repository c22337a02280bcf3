"""What is asked: the benchmarks, their tables, their questions and prompts."""
