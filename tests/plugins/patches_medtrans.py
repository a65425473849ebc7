"""Puts a function of its own in the place of another's."""

import medtrans.errors


class ConfigError(Exception):
    """Not the one that others mean."""


medtrans.errors.ConfigError = ConfigError
