"""Errors as sentences and exit codes; imported by `main` when there is one to explain."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from actionbus.adapters.cli.printing import FAILED, UNAVAILABLE, USAGE, fail, first_line, read_enough
from actionbus.core import ActionBusError, ConfigurationError, JournalUnavailable
from actionbus.core.storage.drivers import driver_error


def explained(error: Exception) -> BaseException:
    """What to raise instead of what a command raised, so that no traceback reaches the terminal."""
    match error:
        case click.ClickException() | click.Abort():
            return error
        case ConfigurationError():
            return fail("; ".join(error.problems), USAGE)
        case JournalUnavailable():
            cause = first_line(driver_error(error.__cause__)) if error.__cause__ else ""
            return fail(str(error) if cause in str(error) else f"{error} ({cause})", UNAVAILABLE)
        case ActionBusError():
            return fail(str(error), FAILED)
        case SQLAlchemyError():
            refused = "cannot be reached" if _is_away(error) else "refused"
            return fail(f"the database {refused}: {first_line(driver_error(error))}", UNAVAILABLE)
        case BrokenPipeError():
            return read_enough()
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return fail(f"{where}{error.strerror or error}", FAILED)
        case _:
            return error


def _is_away(error: SQLAlchemyError) -> bool:
    """Whether no statement was even sent, or its connection was lost."""
    return isinstance(error, DBAPIError) and (error.statement is None or error.connection_invalidated)
