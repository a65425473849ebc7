"""States an interface that is no version."""

PLUGIN_API = "-1"
