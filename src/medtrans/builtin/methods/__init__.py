"""Owns the built-in ways to train."""
