"""Exports asked in the engines that people use, against the models that were trained (scripts/test_engines.sh)."""
