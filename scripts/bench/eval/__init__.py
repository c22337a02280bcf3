"""Parts of scripts/bench_eval.py."""
