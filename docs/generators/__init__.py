"""Owns the texts of the reference pages that are made from the code; `docs/generate.py` writes them."""
