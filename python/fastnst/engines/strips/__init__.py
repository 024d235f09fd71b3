"""Evaluations piece by piece: exact, and with memory that does not grow with the picture."""
