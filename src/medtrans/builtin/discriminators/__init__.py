"""The built-in discriminators, one to a file."""
