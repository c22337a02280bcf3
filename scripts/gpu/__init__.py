"""What is run on a GPU machine that is at hand for some minutes; see `check.sh`."""
