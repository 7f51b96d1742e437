"""Errors as sentences and exit codes; imported by `main` when there is one to explain."""

from __future__ import annotations

import click
from sqlalchemy.exc import SQLAlchemyError

from actionbus.adapters.cli.printing import FAILED, UNAVAILABLE, USAGE, fail, first_line, read_enough
from actionbus.core import ActionBusError, ConfigurationError, JournalUnavailable


def explained(error: Exception) -> BaseException:
    """What to raise instead of what a command raised, so that no traceback reaches the terminal."""
    match error:
        case click.ClickException() | click.Abort():
            return error
        case ConfigurationError():
            return fail("; ".join(error.problems), USAGE)
        case JournalUnavailable():
            cause = f" ({first_line(error.__cause__)})" if error.__cause__ else ""
            return fail(f"{error}{cause}", UNAVAILABLE)
        case ActionBusError():
            return fail(str(error), FAILED)
        case SQLAlchemyError():
            return fail(f"the database refused: {first_line(error)}", UNAVAILABLE)
        case BrokenPipeError():
            return read_enough()
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return fail(f"{where}{error.strerror or error}", FAILED)
        case _:
            return error
