"""Engines: the ways of computing the objective and its gradient."""
