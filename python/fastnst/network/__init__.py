"""VGG: its layers, its weights, what its input is normalised to."""
