"""Owns what `docs/study.py` does: gathering finished runs of the study, and their table."""
