"""The parts of `build_digits_base.py`: how the small base model of DigitsVQA is made."""
