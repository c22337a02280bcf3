"""The parts of `scripts/make_mix_like.py`: words, turns of each source, image files, a tokenizer."""
