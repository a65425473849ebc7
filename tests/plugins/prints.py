"""Prints while it is imported."""

print("hello from a plugin")  # noqa: T201 -- printing is the fault
