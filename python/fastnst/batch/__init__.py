"""Many content × style pairs: what is done is skipped, and what fails is noted."""
