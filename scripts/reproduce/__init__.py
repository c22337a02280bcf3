"""The parts of reproduce_table5.sh."""
