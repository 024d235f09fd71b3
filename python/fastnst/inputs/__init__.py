"""The pictures and masks of a run as tensors."""
