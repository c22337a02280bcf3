"""The tables and the figure of section 4.1: rows, runs, needs, estimated hours, what comes out of them."""
