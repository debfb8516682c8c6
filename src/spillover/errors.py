"""Every error that spillover raises on purpose.

To add one: subclass the nearest class below, set `exit_code`, and let the message say what is wrong, which thing it
concerns, and what to do about it. A `SpilloverError` is shown without a traceback; anything else is a bug of ours.
"""

from __future__ import annotations


class SpilloverError(Exception):
    """Something went wrong that the reader can act on."""

    exit_code = 1


class UserError(SpilloverError):
    """The input, the command or the configuration is wrong; the message ends with the way out."""

    exit_code = 2


class MachineError(SpilloverError):
    """Something is missing on this machine (weights, disk, network); the message names the command that fixes it."""

    exit_code = 3


class MissingExtra(MachineError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        """The error for `package`, which comes with the extra of that name."""
        return cls(f"The package {package!r} is not installed. Run: pip install 'spillover[{extra}]'")


class CostLimitReached(SpilloverError):
    """A paid stage stopped because its cost limit was reached; finished rows are kept."""

    exit_code = 4


class RunInterrupted(SpilloverError):
    """The person stopped the run; finished rows are saved and the same command resumes it."""

    exit_code = 130


class TimeIsUp(BaseException):
    """Raised through whatever runs when its time is spent: like an interrupt, no error to be caught as one."""
