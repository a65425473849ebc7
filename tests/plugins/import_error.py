"""Fails while it is imported."""

raise ImportError("libfoo.so.3: cannot open shared object file")
