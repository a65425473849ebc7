"""The built-in generators, one to a file; `blocks.py` holds what they share."""
