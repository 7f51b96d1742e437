"""Immutable values that leave the gateway: a Record is a row of the journal, an Outcome what a caller gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args
from uuid import UUID

from actionbus.core.values.change import Change
from actionbus.core.values.details import ErrorDetails, RecordedCall
from actionbus.core.values.public import public

Kind = Literal["submitted", "outcome", "bypass"]
"""What was asked; what came of it; that somebody wrote past the gateway."""
Status = Literal["succeeded", "rejected", "denied", "failed", "interrupted"]
"""Of an outcome."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)


class Tells(Protocol):
    """What knows the rows: a History."""

    def touched(self, record: Record, most: int | None = None) -> Sequence[Change]:
        """See `Record.touched`. Raises HistoryError if it is to more than `most` rows."""

    def positions_of(self, table: str, key: Sequence[Any], after: int, upto: int | None) -> list[int]:
        """The positions in a range at which a table, or one of its rows, was changed; none if it was never recorded."""

    def few_positions_of(self, table: str, key: Sequence[Any], after: int, upto: int, most: int) -> list[int] | None:
        """The same, unless there are more changes than `most`: then None."""

    def positions_in(self, table: str, key: Sequence[Any], pieces: Sequence[tuple[int, int]], most: int) -> list[int]:
        """The same in pieces of history, as far as so many changes in each of them tell."""


class Teller:
    """Stands for the row history in the records of one journal; which one it is makes no two of them differ."""

    __slots__ = ("history",)

    def __init__(self) -> None:
        self.history: Tells | None = None

    def touched(self, record: Record) -> Sequence[Change]:
        """See `Record.touched`."""
        return self.needed().touched(record)

    def needed(self) -> Tells:
        """The history. Raises LookupError if there is none."""
        if self.history is None:
            raise LookupError(
                "this record was not read from a journal that knows its row history; read it through a Bus"
            )
        return self.history

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Teller)

    def __hash__(self) -> int:
        return 0

    def __reduce__(self) -> tuple[type[Teller], tuple[()]]:
        return Teller, ()


NOBODY: Final = Teller()


class Decodes(Protocol):
    """What makes values of a row's columns, as the driver gave them."""

    teller: Teller

    def decoded(self, row: Sequence[Any], name: str) -> Any:
        """The value of one column, decoded when it is asked for."""


@public
class Record:
    """One row of the journal, immutable; `seed` is left out of its repr.

    It is made of its values, or of a row (`of_row`): then a column is decoded when it is first asked for, since whoever
    reads a long journal would spend the time on ids, times and payloads that nobody looks at. No difference can be
    told, also by equality, copies and pickles, but that a column which cannot be decoded raises only then.
    """

    __slots__ = (
        "_row",
        "_source",
        "action",
        "action_id",
        "actor",
        "arguments",
        "calls",
        "cause_id",
        "context",
        "correlation_id",
        "duration_us",
        "error",
        "format",
        "handler_version",
        "idempotency_key",
        "kind",
        "position",
        "recorded_at",
        "release",
        "result",
        "seed",
        "seen",
        "started_at",
        "status",
        "teller",
        "xid",
    )
    __hash__ = None  # type: ignore[assignment]  # its values are lists and dicts

    position: int
    action_id: UUID
    kind: Kind
    status: Status | None
    action: str
    handler_version: int | None
    actor: str | None
    correlation_id: str
    cause_id: UUID | None
    idempotency_key: str | None
    recorded_at: datetime
    started_at: datetime | None
    release: str | None
    context: dict[str, Any] | None
    arguments: dict[str, Any]
    result: Any
    error: ErrorDetails | None
    calls: list[RecordedCall] | None
    seed: str | None
    xid: int | None
    seen: str | None
    duration_us: int | None
    format: int
    teller: Teller
    """Of the journal that it was read from."""
    _row: Sequence[Any]
    _source: Decodes

    def __init__(
        self,
        position: int,
        action_id: UUID,
        kind: Kind,
        status: Status | None,
        action: str,
        handler_version: int | None,
        actor: str | None,
        correlation_id: str,
        cause_id: UUID | None,
        idempotency_key: str | None,
        recorded_at: datetime,
        started_at: datetime | None,
        release: str | None,
        context: dict[str, Any] | None,
        arguments: dict[str, Any],
        result: Any,
        error: ErrorDetails | None,
        calls: list[RecordedCall] | None,
        seed: str | None,
        xid: int | None,
        seen: str | None,
        duration_us: int | None,
        format: int,
        teller: Teller = NOBODY,
    ) -> None:
        values = (
            position,
            action_id,
            kind,
            status,
            action,
            handler_version,
            actor,
            correlation_id,
            cause_id,
            idempotency_key,
            recorded_at,
            started_at,
            release,
            context,
            arguments,
            result,
            error,
            calls,
            seed,
            xid,
            seen,
            duration_us,
            format,
            teller,
        )
        for put, value in zip(_PUT, values, strict=True):
            put(self, value)

    @staticmethod
    def of_row(row: Sequence[Any], source: Decodes) -> Record:
        """A record whose columns, in the order of FIELDS, are decoded by `source` when they are asked for."""
        record = _new(Record)
        _put_row(record, row)
        _put_source(record, source)
        # What everybody looks at is put at once: first to miss it costs more.
        _put_position(record, row[0])
        _put_status(record, row[3])
        _put_action(record, row[4])
        return record

    def with_payloads(self, context: Any, arguments: Any, result: Any, error: Any, calls: Any) -> Record:
        """This record, just made `of_row`, with its payloads decoded already."""
        _put_context(self, context)
        _put_arguments(self, arguments)
        _put_result(self, result)
        _put_error(self, error)
        _put_calls(self, calls)
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Called for what is not there yet, alone.
            if name not in _PLACES:
                raise AttributeError(f"a record has no {name!r}; it has: {', '.join(FIELDS)}")
            source = self._source
            value = source.teller if name == "teller" else source.decoded(self._row, name)
            _PUT[_PLACES[name]](self, value)
            return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a record cannot be changed; `replaced({name}=…)` gives another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a record cannot be changed")

    @property
    def touched(self) -> Sequence[Change]:
        """What an action, or somebody past the gateway, did to rows: asked of the row history when it is read.

        Of an action those nested in it are not part. Raises LookupError for a record that no journal gave.
        """
        return self.teller.touched(self)

    def __repr__(self) -> str:
        return f"<Record {self.position} {self.kind} {self.action} {self.status or ''} action_id={self.action_id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self is other or all(getattr(self, name) == getattr(other, name) for name in FIELDS)

    def __reduce__(self) -> tuple[type[Record], tuple[Any, ...]]:
        return Record, tuple(self.values().values())

    def values(self) -> dict[str, Any]:
        """All columns by name, in their order, and the teller."""
        return {name: getattr(self, name) for name in FIELDS}

    def replaced(self, **values: Any) -> Record:
        """Another record, with some other values."""
        return Record(**{**self.values(), **values})

    def public(self) -> dict[str, Any]:
        """Everything but the seed, for showing."""
        shown = self.values()
        del shown["seed"], shown["teller"]
        return shown


FIELDS: Final = (
    "position",
    "action_id",
    "kind",
    "status",
    "action",
    "handler_version",
    "actor",
    "correlation_id",
    "cause_id",
    "idempotency_key",
    "recorded_at",
    "started_at",
    "release",
    "context",
    "arguments",
    "result",
    "error",
    "calls",
    "seed",
    "xid",
    "seen",
    "duration_us",
    "format",
    "teller",
)
"""A record's fields in their order; all but the last are columns."""
_PLACES: Final = {name: place for place, name in enumerate(FIELDS)}
_new: Final = object.__new__
_PUT: Final[tuple[Callable[[Record, Any], None], ...]] = tuple(vars(Record)[name].__set__ for name in FIELDS)
_put_position, _put_status, _put_action = (_PUT[_PLACES[name]] for name in ("position", "status", "action"))
_put_context, _put_arguments, _put_result, _put_error, _put_calls = _PUT[13:18]
_put_row: Final[Callable[[Record, Any], None]] = vars(Record)["_row"].__set__
_put_source: Final[Callable[[Record, Any], None]] = vars(Record)["_source"].__set__


@public
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action. `result` is JSON; `repeated` says it is an earlier call's outcome given again."""

    action_id: UUID
    action: str
    status: Status
    result: Any
    position: int
    repeated: bool = False
    error: ErrorDetails | None = None

    @classmethod
    def of(cls, record: Record, *, repeated: bool = False) -> Outcome:
        """The outcome that a record of kind 'outcome' tells."""
        assert record.status is not None, f"{record!r} is no outcome"
        return cls(
            action_id=record.action_id,
            action=record.action,
            status=record.status,
            result=record.result,
            position=record.position,
            repeated=repeated,
            error=record.error,
        )
