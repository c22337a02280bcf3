"""The shipped recipes: which there are, and a copy of one that is a single file to edit."""
