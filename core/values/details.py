"""What stands in a record's `calls` and `error`, and what `Journal.stats` gives: keys and types of these dicts.

They are JSON of the journal; a key that this version does not know may stand there too, written by a later one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Required, TypedDict

from actionbus.core.values.public import public


@public
class RecordedCall(TypedDict, total=False):
    """One call of an outside dependency. It has one of `returned`, `raised`, `items` and `opaque`."""

    call: Required[str]
    """Its path, such as `mailer.send`; `…` stands for further ones that were not kept."""
    args: list[Any]
    """As tagged JSON, like all values here (`core.values.tagged`)."""
    kwargs: dict[str, Any]
    read: bool
    """An attribute was read, nothing called."""
    returned: Any
    raised: dict[str, Any]
    """Its `class`; `args` and `attributes`, or `opaque`."""
    items: list[Any]
    """What was taken of an iterator."""
    whole: bool
    """The iterator came to its end."""
    opaque: str
    """Why it cannot be played back."""


@public
class ErrorDetails(TypedDict, total=False):
    """What an outcome says of an error."""

    type: Required[str]
    """The class, as `module:name`; public ones as they are imported."""
    message: Required[str]
    errors: dict[str, Any]
    """Of InvalidArguments: each field's messages."""
    sqlstate: str
    constraint: str
    """The database's code, and the constraint's name."""
    traceback: list[str]
    """`file:line function`, of the handler and what it called; not of errors of ours."""


@public
class ActionCount(TypedDict):
    """Outcomes of one action with one status."""

    action: str
    status: str | None
    count: int
    mean_ms: float


@public
class JournalStats(TypedDict):
    """Counts up to the settled end of a journal, in records."""

    records: int
    last_position: int
    first: datetime | None
    """When the first record was written, in UTC; None for an empty journal."""
    last: datetime | None
    actions: list[ActionCount]
