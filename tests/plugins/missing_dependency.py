"""Imports a package that is not installed."""

import not_there_at_all  # noqa: F401 -- its absence is the fault
