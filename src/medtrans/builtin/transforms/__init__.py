"""The built-in intensity scalings."""
