"""Leaves the interpreter."""

raise SystemExit(3)
