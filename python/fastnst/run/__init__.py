"""A run: prepare, solve, record."""
