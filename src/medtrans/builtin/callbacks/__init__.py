"""The built-in watchers of a run."""
