"""Owns nothing itself: the built-in losses live one idea to a file beside it."""
