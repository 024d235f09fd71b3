"""What is drawn of a run: figures and films."""
