"""Owns the built-in watchers of a run."""
