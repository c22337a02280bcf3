"""The parts of make_benchmarks_like.py: pictures, questions with options, the rows of each benchmark."""
