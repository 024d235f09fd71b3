"""Fixtures of the films' tests."""

from helpers.films import quick

__all__ = ["quick"]
