"""Puts back what one action changed, from its images, in the transaction of the action that does so. See decision 0022.

What must be correct beside other writers: a row is read and locked before it is compared, so between the comparison
and the write nobody changes it; one that is to be there again is kept apart by its key's uniqueness. And when all is
done, the images of this very transaction are compared with what was to be put back: whatever a cascade, a trigger or a
default did besides, or a writer who came between, they tell, and then nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application, narrowed
from actionbus.core.errors import Conflict, InvalidArguments, RevertConflict
from actionbus.core.history.databases import database_of
from actionbus.core.history.declared import read_declared
from actionbus.core.history.decoding import UNKNOWN
from actionbus.core.history.images import Image, Images
from actionbus.core.history.putting import rows_of
from actionbus.core.history.shapes import GAP, Shape, latest
from actionbus.core.history.uncommitted import UncommittedImages
from actionbus.core.history.undoing import WHOLE, NetChange, differences, is_known, made_by, unlike
from actionbus.core.storage.backend import Backend
from actionbus.core.values.change import is_same
from actionbus.core.values.row_keys import key_text

ACTION: Final = "revert_action"
_ACTIONS: Final = "actionbus.core.history.revert_actions"
_SHOWN: Final = 100
"""Characters of a value in a message."""
_ENDED: Final = "SELECT position, status, action FROM {home}journal WHERE action_id = ? AND kind = 'outcome'"
_NESTED: Final = """SELECT action_id, position FROM {home}journal
    WHERE cause_id = ? AND kind = 'outcome' AND status = 'succeeded' AND position < ?"""


class Reverting:
    """Reverts actions, for the handler that `application` has."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def application(self, application: Application) -> Application:
        """With the one action that does the work, and who is asked for its permission."""
        return narrowed(application, _ACTIONS, reverting=self)

    def run(self, session: Session, action_id: UUID) -> dict[str, Any]:
        """Put back what an action changed. Raises RevertConflict, or InvalidArguments for one that changed nothing."""
        connection = session.connection()
        reader = database_of(connection).images(self._backend, connection)
        with reader.joined():
            shapes = database_of(connection).shapes(connection, self._backend.prefix)
            name, images = self._images(reader, shapes, action_id)
            return {"reverted": str(action_id), "action": name, **_Revert(self._backend, session, shapes).run(images)}

    def _images(self, reader: Images, shapes: Sequence[Shape], action_id: UUID) -> tuple[str, list[Image]]:
        """The action's name; the images of it and of the actions nested in it."""
        ended = reader.rows_of(_ENDED, (self._backend.written_id(action_id),))
        if not ended:
            begun = reader.archived()
            where = f"; {begun.where()}" if begun else ""
            raise _refused(f"there is no outcome of such an action; `actionbus log` shows the latest{where}")
        position, status, name = ended[0]
        if status != "succeeded":
            raise _refused(f"{name} {status}, and changed nothing")
        sources = reader.sources([position, *self._nested(reader, action_id, position)])
        found = [image for source in sources.values() for image in reader.of_record(shapes, source)]
        if not found:
            raise _refused(f"{name} changed no row that is recorded")
        return name, sorted(found, key=lambda each: each.image)

    def _nested(self, reader: Images, action_id: UUID, before: int) -> Iterator[int]:
        for own_id, position in reader.rows_of(_NESTED, (self._backend.written_id(action_id), before)):
            yield position
            yield from self._nested(reader, UUID(str(own_id)), position)


class _Revert:
    """One revert, in its transaction."""

    def __init__(self, backend: Backend, session: Session, shapes: Sequence[Shape]) -> None:
        self._backend, self._session = backend, session
        self._connection = session.connection()
        self._shapes: Mapping[int, Shape] = {each.shape: each for each in shapes}
        self._rows = rows_of(self._connection)
        self._present = {name: each for name, each in latest(shapes).items() if self._rows.is_there(name)}
        self._personal = {name: each.personal for name, each in read_declared(self._connection, backend.prefix).items()}
        self._computed = {name: self._rows.computed(name) for name in self._present}

    def run(self, images: Sequence[Image]) -> dict[str, Any]:
        """Put the rows back; how many of each table."""
        if outdated := [*self._outdated(images)]:
            raise RevertConflict(outdated)
        made = made_by(images, self._shapes, self._present)
        if conflicts := [*self._unseen(images), *(each for one in made for each in self._conflicts(one))]:
            raise RevertConflict(conflicts)
        changing = [each for each in made if each.changed() or each.before is None or each.after is None]
        self._put_all(changing)
        expected = differences(changing, self._computed, undone=True)
        others, now = self._compared(expected)
        if others and all(place in expected for place in others):
            # Triggers of the application may have done a part of it already, which then was done twice.
            self._put_all([each for each in map(self._left, changing) if each is not None])
            others, now = self._compared(expected)
        if others:
            raise RevertConflict([self._besides(place, expected, now) for place in others])
        counts: dict[str, int] = {}
        for each in changing:
            counts[each.shape.short] = counts.get(each.shape.short, 0) + 1
        unknown = {
            f"{one.shape.short}.{each}" for one in changing if one.before and one.after for each in one.shape.withheld
        }
        return {"rows": counts} | ({"withheld": sorted(unknown)} if unknown else {})

    def _compared(self, expected: Mapping[Any, Any]) -> tuple[list[Any], list[NetChange]]:
        """Where what was done is not what was to be done, by the images of this transaction; and what was done."""
        found = UncommittedImages(self._backend, self._connection)
        now = made_by(found.images, found.shapes, self._present)
        return unlike(expected, differences(now, self._computed)), now

    def _left(self, made: NetChange) -> NetChange | None:
        """What is left to be put back of a row that was put back; None if nothing is."""
        if not made.shape.key:
            return None
        current = self._rows.current(made.shape, made.key)
        if made.before is None or made.after is None or current is None:
            return NetChange(made.shape, made.before, current, {}, made.order) if current != made.before else None
        wanted = current | {name: was for name, (was, _) in made.changed().items()}
        return NetChange(made.shape, wanted, current, {}, made.order)

    def _unseen(self, images: Sequence[Image]) -> Iterator[Conflict]:
        for image in images:
            shape = self._shapes.get(image.shape)
            name = shape.short if shape else "?"
            if image.operation == GAP:
                yield Conflict(name, "", None, None, None, "a change could not be recorded")
            elif shape is not None and shape.table_name not in self._present:
                yield Conflict(name, "", None, None, None, "there is no such table any more")

    def _outdated(self, images: Sequence[Image]) -> Iterator[Conflict]:
        """Tables that have lost a recorded column, so that no row of them can be read as it was recorded."""
        names = {shape.table_name for image in images if (shape := self._shapes.get(image.shape)) is not None}
        for name in sorted(names & self._present.keys()):
            shape = self._present[name]
            there = self._rows.columns(name)
            if gone := [each for each in shape.columns if each not in there]:
                why = f"it has no column {', '.join(gone)} any more; run `actionbus history install` first"
                yield Conflict(shape.short, "", None, None, None, why)

    def _conflicts(self, made: NetChange) -> Iterator[Conflict]:
        """Why a row cannot be put back; the row stays locked."""
        changed = made.changed()
        for name, (was, now) in made.lost.items():
            if repr(was) != repr(now) and was not in (None, UNKNOWN):
                yield self._conflict(made, name, why="there is no such column any more")
        withheld = made.shape.withheld
        if withheld and made.after is None:
            yield from (self._conflict(made, name, why="it is withheld from history") for name in withheld)
        elif withheld and made.before is not None and not changed:
            yield self._conflict(made, ", ".join(withheld), why="withheld from history, and may be what was changed")
        if made.before is not None and made.after is not None:
            unknown = [name for name, (was, _) in changed.items() if not is_known(was)]
        else:
            unknown = [n for n, each in (made.before or {}).items() if not is_known(each) and each is not UNKNOWN]
        yield from (self._conflict(made, name, why="its value was erased, or never recorded") for name in unknown)
        if made.shape.key and (changed or made.before is None or made.after is None):
            yield from self._moved(made, changed)

    def _moved(self, made: NetChange, changed: Mapping[str, Any]) -> Iterator[Conflict]:
        """What became of a row since."""
        current = self._rows.current(made.shape, made.key)
        if made.after is None:
            if current is not None:
                yield self._conflict(made, None, was="gone", now="there again")
            return
        if current is None:
            yield self._conflict(made, None, was="there", now="gone")
            return
        watched = made.after if made.before is None else changed
        for name in watched:
            left, now = made.after[name], current[name]
            if name in self._computed[made.shape.table_name] or not is_known(left):
                continue
            if not is_same(left, now):
                yield self._conflict(
                    made, name, was=self._shown(made.shape, name, left), now=self._shown(made.shape, name, now)
                )

    def _put_all(self, made: Sequence[NetChange]) -> None:
        """All rows, in whatever order the constraints allow; those that wait for COMMIT are asked at the end."""
        refused = self._backend.engine.dialect.loaded_dbapi.IntegrityError
        waiting = sorted(made, key=_turn)
        self._set("DEFERRED")
        try:
            with self._part():
                for each in waiting:
                    self._put(each)
            waiting = []
        except refused:
            pass  # one by one, then
        while waiting:
            left: list[tuple[NetChange, Exception]] = []
            for each in waiting:
                try:
                    with self._part():
                        self._put(each)
                except refused as error:
                    left.append((each, error))
            if len(left) == len(waiting):
                raise RevertConflict([self._conflict(each, None, why=_said(error)) for each, error in left])
            waiting = [each for each, _ in left]
        try:
            with self._part():
                self._set("IMMEDIATE")
        except refused as error:
            raise RevertConflict([Conflict("", "", None, None, None, _said(error))]) from None

    @contextmanager
    def _part(self) -> Iterator[None]:
        with self._session.begin_nested():
            self._session.connection()  # sends the savepoint, which SQLAlchemy does not before it is used
            yield

    def _set(self, when: str) -> None:
        """Have constraints that can wait checked at COMMIT, or now; SQLite has each as it was declared."""
        if self._connection.dialect.name == "postgresql":
            self._session.connection().exec_driver_sql(f"SET CONSTRAINTS ALL {when}")

    def _put(self, made: NetChange) -> None:
        computed = self._computed[made.shape.table_name]
        if made.before is None:
            assert made.after is not None
            done = self._rows.delete(made.shape, made.after)
            if not done and not made.shape.key:
                raise RevertConflict([self._conflict(made, None, was="there", now="gone")])
        elif made.after is None:
            values = {n: each for n, each in made.before.items() if n not in computed and is_known(each)}
            self._rows.insert(made.shape, values)
        else:
            values = {name: was for name, (was, _) in made.changed().items() if name not in computed}
            if values:
                self._rows.update(made.shape, made.key, values)

    def _besides(self, place: Any, expected: Mapping[Any, Any], now: Sequence[NetChange]) -> Conflict:
        table, key, column = place
        row = next((each for each in now if each.shape.table_name == table and repr(each.key) == key), None)
        name = self._present[table].short
        told = self._key(row) if row else ""
        if place in expected:
            why = (
                "it would not come out as it was: a trigger or a constraint of the application's gives it another value"
            )
        else:
            why = "it would be changed as well, by a trigger or a cascade of the application's"
        return Conflict(name, told, column if column != WHOLE else None, None, None, why)

    def _conflict(
        self,
        made: NetChange,
        column: str | None,
        *,
        was: str | None = None,
        now: str | None = None,
        why: str | None = None,
    ) -> Conflict:
        return Conflict(made.shape.short, self._key(made), column, was, now, why)

    def _key(self, made: NetChange) -> str:
        return key_text([self._shown(made.shape, name, value) for name, value in made.key.items()])

    def _shown(self, shape: Shape, column: str, value: Any) -> str:
        """A value for a message, which is kept in the journal: of a personal one nothing."""
        if column in self._personal.get(shape.table_name, ()):
            return "(personal)"
        if value is None:
            return "NULL"
        text = str(value) if is_known(value) else "(unknown)"
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _turn(made: NetChange) -> tuple[int, int]:
    """Rows that come back first, those that go last; of each kind the last that was changed first."""
    return 0 if made.after is None else 2 if made.before is None else 1, -made.order


def _said(error: Exception) -> str:
    """What the database says of a constraint, without values."""
    name = getattr(getattr(error, "diag", None), "constraint_name", None)
    return f"the constraint {name} forbids it" if name else str(error).splitlines()[0]


def _refused(why: str) -> InvalidArguments:
    return InvalidArguments({"action_id": [why]})
