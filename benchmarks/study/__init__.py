"""The study: a grid of tasks by methods, and its finished runs in one table; docs/study.md tells it."""
