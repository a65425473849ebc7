"""Owns the built-in intensity scalings; one class a file."""
