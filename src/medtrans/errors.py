"""The errors a user may meet, and the exit code of each."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "MedtransError",
    "RunCancelledError",
    "RunInterruptedError",
    "SetupError",
    "TrainingError",
    "error_of",
]


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


class RunInterruptedError(MedtransError):
    """The run was asked to end (SIGTERM, SIGUSR1), left nothing half done, and wants to be resumed."""

    exit_code = 75


class RunCancelledError(RunInterruptedError):
    """The run was asked to end by Ctrl-C, left nothing half done, and may be resumed."""

    exit_code = 130


def error_of(exit_code: int) -> type[MedtransError]:
    """The error that ends a process with this code; `TrainingError` for a code that none has."""
    kinds = (ConfigError, DataError, SetupError, TrainingError, RunInterruptedError, RunCancelledError)
    return next((kind for kind in kinds if kind.exit_code == exit_code), TrainingError)
