"""`python -m moslora_xtuner` is the command `moslora`."""

from moslora_xtuner.cli import main

main()
