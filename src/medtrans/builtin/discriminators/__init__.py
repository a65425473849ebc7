"""Owns nothing itself: the built-in discriminators live one to a file beside it."""
