"""The parts of reproduce_table4.sh and reproduce_table5.sh: what both share, and a room for each."""
