"""Parts of `faults.py` and of the tests of disturbed trainings: a training as a process, its faults, the table."""
