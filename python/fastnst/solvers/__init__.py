"""Numerical optimisation over bounded tensors; knows no objective of its own."""
