"""The objective L(x), and how it is built from pictures and settings."""
