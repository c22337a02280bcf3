"""Data, tables and models made from nothing."""
