"""Was written for an interface that is yet to come."""

PLUGIN_API = "2.0"
