"""One look at a whole table before a question of it is asked: a file for each kind of what can be wrong."""
