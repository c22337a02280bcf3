"""From files to records, and what can be wrong with one."""
