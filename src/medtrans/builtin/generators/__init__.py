"""Owns nothing itself: the built-in generators live one to a file beside it."""
