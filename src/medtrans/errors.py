"""Owns the errors a user may meet and the exit code of each."""

from __future__ import annotations

__all__ = ["ConfigError", "DataError", "MedtransError", "SetupError", "TrainingError"]


class MedtransError(Exception):
    """A fault the user can act on: shown as a message, never as a traceback.

    Args:
        *faults: one sentence a fault, all that were found; each says what is wrong, where, what was found,
            what was expected and what to do.
    """

    exit_code = 1

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(self.faults)


class ConfigError(MedtransError):
    """The configuration, or a name or an option in it, is wrong."""

    exit_code = 2


class DataError(MedtransError):
    """An image, a manifest or a cohort is wrong."""

    exit_code = 3


class SetupError(MedtransError):
    """The machine, an installed plugin or a folder does not allow the work."""

    exit_code = 4


class TrainingError(MedtransError):
    """Training had to stop."""

    exit_code = 5
