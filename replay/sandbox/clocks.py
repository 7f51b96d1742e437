"""The database's own clock, which tells another time whenever an action runs: then and now. Used by comparisons."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

_SLACK: Final = timedelta(minutes=2)
"""How far the clocks of a database and of its clients may be apart."""
_ASKS: Final = re.compile(
    r"\b(now|datetime|date|time|strftime|julianday|unixepoch|timeofday|(clock|statement|transaction)_timestamp)\s*\("
    r"|\b(current_(timestamp|date|time)|localtime(stamp)?)\b",
    re.I,
)
_ZONES: Final = timedelta(hours=14)
"""A time without a zone may be that of any place."""


class Clocks:
    """When one action ran in history, and when it was run again.

    `bound` are the times that the re-run handed to the database: these are the handler's, and no clock explains them;
    but for those `made` by columns' own functions.
    """

    def __init__(
        self, began: datetime, ended: datetime, again: datetime, bound: Collection[Any] = (), made: Collection[Any] = ()
    ) -> None:
        self._then = began - _SLACK, ended + _SLACK
        self._again = again - _SLACK
        self._bound = {_plain(moment) for each in bound if (moment := _moment(each)) is not None}
        for moment in filter(None, map(_moment, made)):
            self._bound -= {_plain(moment), _as_stored(moment)}

    def explain(self, then: Any, now: Any) -> bool:
        """Whether two values differ only since each is the time at which it was made."""
        return self.then(then) and self.now(now)

    def then(self, value: Any) -> bool:
        """Whether a value is a time at which the action ran in history."""
        return _is_between(value, *self._then)

    def now(self, value: Any) -> bool:
        """Whether a value is a time since it was run again."""
        if not _is_between(value, self._again, datetime.now(UTC) + _SLACK):
            return False
        moment = _moment(value)
        assert moment is not None
        return _plain(moment) not in self._bound


def asks(statement: str) -> bool:
    """Whether a statement asks the database's clock."""
    return _ASKS.search(statement) is not None


def _plain(moment: datetime | date) -> Any:
    """The same whether or not a zone is told; times without one are UTC's."""
    return moment.astimezone(UTC).replace(tzinfo=None) if isinstance(moment, datetime) and moment.tzinfo else moment


def _as_stored(moment: datetime | date) -> Any:
    """Where a zone is not stored."""
    return moment.replace(tzinfo=None) if isinstance(moment, datetime) else moment


def _is_between(value: Any, low: datetime, high: datetime) -> bool:
    moment = _moment(value)
    if moment is None:
        return False
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            moment, low, high = moment.replace(tzinfo=UTC), low - _ZONES, high + _ZONES
        return low <= moment <= high
    return (low - _ZONES).date() <= moment <= (high + _ZONES).date()


def _moment(value: Any) -> datetime | date | None:
    if isinstance(value, (datetime, date)):
        return value
    if not isinstance(value, str) or not 10 <= len(value) <= 35 or not value[:4].isdigit():
        return None
    try:
        return datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
    except ValueError:
        return None
