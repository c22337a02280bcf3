"""The exception types that cross the border of this package.

Each message says what is wrong, where, and what to do. The command line prints it as one line and
exits with the type's `exit_code`; `moslora --debug` shows the traceback.
"""

from __future__ import annotations


class MoSLoRAError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UsageError(MoSLoRAError):
    """The command or function was asked for something that does not exist or does not fit."""

    exit_code = 2


class SetupError(MoSLoRAError):
    """The environment is unfit: a missing or wrong package, Python version, disk space, permission."""

    exit_code = 3


class OutputError(MoSLoRAError):
    """An output folder exists and is not ours, or cannot be written."""

    exit_code = 4


class DiskFull(OutputError):
    """There is no space left: whatever is written next would be lost too."""


class DataError(MoSLoRAError):
    """The data (JSON, images, store, TSV) is broken, missing or made for something else."""

    exit_code = 5


class ConfigError(MoSLoRAError):
    """A training config or an adapter config contradicts itself or the model."""

    exit_code = 6


class TrainingError(MoSLoRAError):
    """Training failed or did not leave behind what it should have."""

    exit_code = 7


class Interrupted(MoSLoRAError):
    """A training was asked to stop; what it had done is saved.

    Attributes:
        exit_code: 128 and the signal's number, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    exit_code = 130

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class ExportError(MoSLoRAError):
    """A checkpoint cannot be exported, or the export would not equal the trained model."""

    exit_code = 8


class EvaluationError(MoSLoRAError):
    """Inference or scoring failed, or its result cannot be trusted."""

    exit_code = 9


class AdapterError(ConfigError):
    """The adapter cannot be attached, loaded, merged or folded exactly."""
