"""Seals personal values in the records of one call and the actions inside it, just before they are written.

All that an action does sees clear values. Costs nothing while no action of the call has personal arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.declare.registry import Action
from actionbus.core.secrecy.personal import Personal, SubjectKey, is_erased, withheld
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.rows import Row, Statement
from actionbus.core.storage.subject_keys import inserting, key_of
from actionbus.core.storage.table import SEALED
from actionbus.core.values import payload
from actionbus.core.values.limits import Limits

_SEALED: Final = ("context", "arguments", "result", "error", "calls")
"""Columns of a row in which personal values are looked for."""
_LIMITS: Final = Limits()


class Sealer:
    """What is personal in one call, and the keys for it."""

    def __init__(self) -> None:
        self._personal = Personal()
        self._arguments: dict[UUID, dict[str, str]] = {}
        """By action, which of its arguments are personal, and whose."""
        self._unknown: dict[UUID, dict[str, str]] = {}
        """By action, under which names arguments or result may yet tell a subject, and what he is called till then."""
        self._provisional: dict[str, str] = {}
        """Subjects that are not known yet, each with a key of its own, by the name under which that is kept."""
        self._keys: dict[str, SubjectKey] = {}
        self._unsaved: dict[tuple[str, str], Statement] = {}

    def __bool__(self) -> bool:
        return bool(self._arguments)

    def register(self, action: Action | None, action_id: UUID, values: Mapping[str, Any]) -> None:
        """An action of this call was asked for, with these values, as they came."""
        if action is None or not action.personal:
            return
        subjects: dict[str, str] = {}
        for name, about in action.personal.items():
            named = name if about is True else str(about)
            subject = _subject(action, values, named)
            if subject is None:
                subject = f"action:{action_id}/{named}"
                self._provisional[subject] = f"action:{action_id}"
                self._unknown.setdefault(action_id, {})[named] = subject
            subjects[name] = subject
        self._arguments[action_id] = subjects

    def load(self, backend: Backend, connection: Connection, action_id: UUID, values: Mapping[str, Any]) -> None:
        """Find or make the keys for what an action was given, outside of any transaction; a new one is committed.

        Before its submitted record, in the same log: who finds the record finds the key.
        """
        given = {name: each for name, each in self._arguments[action_id].items() if values.get(name) is not None}
        for subject in dict.fromkeys(given.values()):
            if subject in self._keys:
                continue
            found = None if subject in self._provisional else key_of(backend, subject, connection)
            if found is None:
                backend.run_alone(connection, self._inserting(found := SubjectKey.new(), subject))
            self._keys[subject] = found

    def remember(self, action_id: UUID, values: Mapping[str, Any]) -> None:
        """Look for an action's personal values, as they came or as they were validated."""
        for name, subject in self._arguments.get(action_id, {}).items():
            if values.get(name) is not None:
                self._personal.remember(values[name], self._key(subject))
        self._look_for_subjects(action_id, values)

    def finds(self, value: Any) -> bool:
        """Whether anything personal stands in a JSON value."""
        return bool(self._arguments) and self._personal.is_in(value)

    def unsaved(self) -> list[Statement]:
        """What keeps the keys that are not kept yet, for the transaction that writes the records."""
        return list(self._unsaved.values())

    def sealed(self, row: Row) -> Row:
        """A record as it is to be written."""
        if not self._arguments:
            return row
        if row.status == "succeeded" and row.result is not None and row.action_id in self._unknown:
            self._look_for_subjects(row.action_id, payload.loads(row.result))
        changed: dict[str, Any] = {}
        for column in _SEALED:
            text = getattr(row, column)
            if text is not None:
                made = payload.dumps(self._column(row, column, payload.loads(text)))
                changed |= {column: made} if made != text else {}
        return row._replace(**changed, format=SEALED) if changed else row

    def left_out(self, text: str) -> str:
        """A text for where no erasure comes, such as the queue's tables: without what is personal in it."""
        return str(withheld(self._personal.json(text, ""))) if self._arguments else text

    def _column(self, row: Row, column: str, value: Any) -> Any:
        place = f"{row.action_id.hex}/{column}"
        own = self._arguments.get(row.action_id, {})
        if column != "arguments" or not isinstance(value, dict):
            return self._personal.json(value, place)
        return {
            name: self._personal.sealed(each, self._key(own[name]), f"{place}/{name}")
            if name in own and each is not None
            else self._personal.json(each, f"{place}/{name}")
            for name, each in value.items()
        }

    def _look_for_subjects(self, action_id: UUID, told: Any) -> None:
        """A subject whom a default names, or whom the action made: from now on his key is known by his name too."""
        for name, subject in self._unknown.get(action_id, {}).items():
            value = told.get(name) if isinstance(told, Mapping) else None
            if value is not None and subject in self._keys and (text := _text(value)) is not None:
                key = self._keys[subject]
                self._unsaved[key.key_id, text] = inserting(key, text)

    def _key(self, subject: str) -> SubjectKey:
        """The subject's key; one that is new is kept with the records."""
        if subject not in self._keys:
            key = self._keys[subject] = SubjectKey.new()
            self._unsaved[key.key_id, subject] = self._inserting(key, subject)
        return self._keys[subject]

    def _inserting(self, key: SubjectKey, subject: str) -> Statement:
        return inserting(key, self._provisional.get(subject, subject))


def _subject(action: Action, values: Mapping[str, Any], name: str) -> str | None:
    """Whom an argument names, in the one way in which its type writes him; None if nobody is named."""
    value = values.get(name)
    if (field := action.schema.fields.get(name)) is not None and value is not None:
        with suppress(Exception):
            value = field.deserialize(value)
    return _text(value)


def _text(value: Any) -> str | None:
    """A subject as the columns that name him have him; None for what names nobody."""
    with suppress(payload.Unencodable, payload.TooDeep):
        value = payload.primitive(value, _LIMITS)
        return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    return None


def comparable(asked: dict[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked now, to be compared with what was asked first: what was erased of that cannot be."""
    return {name: first[name] if name in first and is_erased(first[name]) else each for name, each in asked.items()}


def erased_names(arguments: Mapping[str, Any]) -> Sequence[str]:
    """The arguments that were erased."""
    return [name for name, each in arguments.items() if each == payload.ERASED]
