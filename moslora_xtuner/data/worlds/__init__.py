"""Small worlds: questions in the forms of the eight commonsense sets that need no download and no knowledge."""

PREFIX = "SmallWorlds_"
"""Stands before a set's name in the names of these tables."""
