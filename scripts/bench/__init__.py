"""What the benchmarks are made of; the commands are scripts/bench_*.py."""
