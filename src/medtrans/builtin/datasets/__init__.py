"""Owns the built-in datasets."""
