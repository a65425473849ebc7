"""Prints while it is imported."""

print("hello from a plugin")  # noqa: T201
