"""The built-in ways to train."""
