"""Owns the comparison of all generators and discriminators; `docs/methods_compared.py` runs it."""
