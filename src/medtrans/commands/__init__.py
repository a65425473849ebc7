"""Owns the verbs of the command line, by what they are about."""
