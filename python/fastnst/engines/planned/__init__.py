"""Planned evaluations: one forward and one backward walk over a frozen VGG, without a tape."""
