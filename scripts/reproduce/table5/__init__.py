"""Table 5: what its steps need, and estimated hours."""
