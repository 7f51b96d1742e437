"""How tables stand on PostgreSQL: what the catalogue has of them and their triggers, beside what is recorded of them.

Asked by `history.postgresql` before it installs, and through `history.databases` by whoever wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection, text

from actionbus.core.errors import ConfigurationError, JournalUnavailable
from actionbus.core.history import postgresql_functions as sql
from actionbus.core.history.postgresql_catalogue import CatalogueTable, children, detached, look, relations_of
from actionbus.core.history.shapes import Shape, Standing, TableWanted, latest, postgresql_shapes
from actionbus.core.history.withholding import withheld_of
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.missing import NO_JOURNAL
from actionbus.core.storage.names import in_text, quoted
from actionbus.core.storage.positions import find_home

_WITHIN: Final = (
    "SAVEPOINT actionbus_install",
    "RELEASE SAVEPOINT actionbus_install",
    "ROLLBACK TO SAVEPOINT actionbus_install; RELEASE SAVEPOINT actionbus_install",
)
_ALONE: Final = ("BEGIN", "COMMIT", "ROLLBACK")


class LossReason(NamedTuple):
    """Why changes may go by unrecorded."""

    told: str
    relation: int | None = None
    """The table or partition whose trigger is meant; None for what concerns all."""


class Finding(NamedTuple):
    """A table, its shape, and what differs between the two."""

    table: CatalogueTable
    shape: Shape | None
    """What its triggers write under; None where none of ours is on it."""
    lost: tuple[LossReason, ...]
    """Why changes may not have been recorded, so that only a baseline makes the history whole."""
    stale: tuple[str, ...]
    """What keeps changes from being recorded under the present columns."""
    detached: tuple[str, ...] = ()
    """Tables that were its partitions, and still have its triggers; by their names in SQL."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is to be done."""
        return self.shape is not None and not self.lost and not self.stale


class NamedTable(NamedTuple):
    """A table that is meant, as it was found by its name."""

    wanted: TableWanted
    relation: int | None

    @property
    def name(self) -> str:
        """The table's name for people."""
        return f"{self.wanted.schema}.{self.wanted.name}" if self.wanted.schema else self.wanted.name


def home_of(connection: Connection, schema: str | None) -> str:
    """What stands before a name of ours in SQL. Raises JournalUnavailable."""
    home = schema or find_home(driver_connection(connection).cursor())
    if home is None:
        raise JournalUnavailable(NO_JOURNAL)
    return f"{quoted(home)}."


def find_homes(connection: Connection) -> list[str]:
    """The schemas that hold a journal and a row history, as `home_of` gives them; what `search_path` finds first."""
    found = connection.execute(
        text(
            "SELECT n.nspname FROM pg_class j JOIN pg_namespace n ON n.oid = j.relnamespace "
            "JOIN pg_class s ON s.relnamespace = n.oid AND s.relname = 'actionbus_shapes' "
            "WHERE j.relname = 'journal' AND j.relkind IN ('r', 'p') "
            "ORDER BY j.oid = to_regclass('journal') DESC NULLS LAST, n.nspname"
        )
    ).scalars()
    return [f"{quoted(name)}." for name in found]


def standings(
    connection: Connection, home: str, shapes: Sequence[Shape], wanted: Sequence[TableWanted] | None
) -> list[Standing]:
    """See `history.databases`."""
    with pinned(connection, path=False):
        asked = _known(connection, shapes) if wanted is None else find_asked(connection, wanted)
    with pinned(connection):
        looked = _look(connection, asked, shapes, home)
        return [_standing(each, looked.get(each), shapes) for each in asked]


@contextmanager
def glancing(connection: Connection) -> Iterator[None]:
    """See `history.databases`."""
    cursor = driver_connection(connection).cursor()
    cursor.execute("BEGIN READ ONLY; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'")
    try:
        yield
    finally:
        cursor.execute("ROLLBACK")


@contextmanager
def apart(connection: Connection) -> Iterator[None]:
    """See `history.databases`."""
    dbapi = driver_connection(connection)
    cursor = dbapi.cursor()
    is_own = dbapi.autocommit and dbapi.info.transaction_status == TRANSACTION_STATUS_IDLE
    begin, end, back = _ALONE if is_own else _WITHIN
    cursor.execute(begin)
    try:
        yield
    except BaseException:
        cursor.execute(back)
        raise
    cursor.execute(end)


def sizes(connection: Connection, home: str, shapes: Sequence[Shape]) -> dict[str, tuple[int, int]]:
    """See `history.databases`."""
    rows = connection.execute(
        text(
            "SELECT s.table_name, count(*), sum(coalesce(octet_length(i.before), 0) "
            "+ coalesce(octet_length(i.after), 0) + coalesce(octet_length(i.key), 0)) "
            f"FROM {in_text(home)}actionbus_images i JOIN {in_text(home)}actionbus_shapes s USING (shape) "
            "GROUP BY s.table_name"
        )
    ).all()
    return {name: (images, int(size or 0)) for name, images, size in rows}


def _standing(asked: NamedTable, looked: Finding | ConfigurationError | None, shapes: Sequence[Shape]) -> Standing:
    if looked is None:
        were = [shape for shape in shapes if _is_named(shape.table_name, asked.wanted)]
        if not were:
            told = f"there is no table {asked.name}"
            return Standing(asked.name, None, (told,), (), asked.wanted.withheld, is_bare=True, is_there=False)
        told = f"the table {were[-1].table_name} is gone"
        return Standing(were[-1].table_name, None, (told,), (), were[-1].withheld, is_bare=True, is_there=False)
    if isinstance(looked, ConfigurationError):
        of_it = [shape for shape in shapes if shape.relation == asked.relation and not shape.is_drifted]
        last = of_it[-1] if of_it else None
        name, withheld = (last.table_name, last.withheld) if last else (asked.name, asked.wanted.withheld)
        return Standing(name, last, tuple(looked.problems), (), withheld)
    lost = tuple(each.told for each in looked.lost)
    table = looked.table
    return Standing(table.name, looked.shape, lost, looked.stale, table.withheld, is_bare=not table.triggers)


def _is_named(table_name: str, wanted: TableWanted) -> bool:
    if wanted.schema is None:
        return table_name.partition(".")[2] == wanted.name
    return table_name == f"{wanted.schema}.{wanted.name}"


def find_asked(connection: Connection, wanted: Sequence[TableWanted], *, may_miss: bool = True) -> list[NamedTable]:
    """The tables that are meant, and those that inherit from them. Raises ConfigurationError where one is missing."""
    relations = relations_of(connection, [_in_sql(each.schema, each.name) for each in wanted])
    heirs = children(connection, [each for each in relations if each is not None])
    found: dict[int, NamedTable] = {}
    missing = []
    for each, relation in zip(wanted, relations, strict=True):
        if relation is None:
            missing.append(NamedTable(each, None))
            continue
        for one in (relation, *heirs[relation]):
            found.setdefault(one, NamedTable(each, one))
    if missing and not may_miss:
        raise ConfigurationError([f"there is no table {each.name}" for each in missing])
    return [*found.values(), *missing]


def _in_sql(schema: str | None, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def _known(connection: Connection, shapes: Sequence[Shape]) -> list[NamedTable]:
    """All tables that have a history."""
    names = sorted(latest(shapes))
    meant = [TableWanted(table, schema) for name in names for schema, table in _parted(name)]
    relations = relations_of(connection, [_in_sql(each.schema, each.name) for each in meant])
    by_name: dict[str, NamedTable] = {}
    for asked in map(NamedTable, meant, relations):
        if asked.relation is not None or asked.name not in by_name:
            by_name[asked.name] = asked
    return [by_name[name] for name in names]


def _parted(name: str) -> list[tuple[str, str]]:
    """Schema and table: either may have a dot in its own name."""
    return [(name[:place], name[place + 1 :]) for place, each in enumerate(name) if each == "."]


def look_all(connection: Connection, asked: Sequence[NamedTable], home: str) -> list[Finding]:
    """All of those that are there. Raises ConfigurationError for those that cannot be recorded."""
    looked = _look(connection, asked, postgresql_shapes(connection, home), home).values()
    if refused := [each for each in looked if isinstance(each, ConfigurationError)]:
        raise ConfigurationError([problem for error in refused for problem in error.problems])
    return [each for each in looked if isinstance(each, Finding)]


def _look(
    connection: Connection, asked: Sequence[NamedTable], shapes: Sequence[Shape], home: str
) -> dict[NamedTable, Finding | ConfigurationError]:
    """Each that is there, or why its rows cannot be recorded."""
    there = {each.relation: each for each in asked if each.relation is not None}
    by_number = {shape.shape: shape for shape in shapes}

    def hold(relation: int, name: str, numbers: Mapping[str, int]) -> tuple[str, ...]:
        return _hold(there[relation].wanted, shapes, relation, name, numbers)

    found = look(connection, list(there), hold, home.replace('"', "")) if there else {}
    looked = {
        there[relation]: each if isinstance(each, ConfigurationError) else _compare(each, by_number, home)
        for relation, each in found.items()
    }
    return _with_detached(connection, looked, home)


def _hold(
    wanted: TableWanted, shapes: Sequence[Shape], relation: int, name: str, numbers: Mapping[str, int]
) -> tuple[str, ...]:
    made = [shape for shape in shapes if not shape.is_drifted]
    same = [shape for shape in made if shape.relation == relation]  # whatever it was called
    before = same or [shape for shape in made if shape.table_name == name]
    present: Mapping[str, int | None] = numbers if same else dict.fromkeys(numbers)
    return withheld_of(name, wanted, before, present)


def _compare(table: CatalogueTable, shapes: Mapping[int, Shape], home: str) -> Finding:
    """What differs between a table with its triggers and what they should be."""
    shape = _shape_of(table, shapes)
    if shape is None:
        return Finding(table, None, (LossReason(f"no trigger of the row history is on {table.name}"),), ())
    lost, stale = [], []
    wanted = sql.functions(table, shape.shape, home)
    for member in table.members:
        for operation in sql.needed(table, member):
            trigger = table.triggers.get((member.relation, f"!actionbus_{operation}"))
            function = wanted[operation]
            told = f"the trigger for {operation}"
            if trigger is None:
                lost.append(LossReason(f"{told} is missing on {member.sql}", member.relation))
            elif not trigger.is_always:
                lost.append(
                    LossReason(f"{told} on {member.sql} is switched off, or not ENABLE ALWAYS", member.relation)
                )
            elif operation != sql.TRUNCATE and trigger.is_by_row != table.is_by_row:
                by = "row" if table.is_by_row else "statement"
                lost.append(LossReason(f"{told} on {member.sql} is not by {by}", member.relation))
            elif trigger[:4] != (function.name, function.body, function.settings, True):
                stale.append(f"{told} on {member.sql} is not the one for its columns")
    lost += [
        LossReason(f"{table.name}: rows may have changed without a trigger: {each}") for each in _rewrites(table, shape)
    ]
    return Finding(table, shape, tuple(lost), tuple(changes(table, shape) or stale))  # the first explains the second


def _with_detached(
    connection: Connection, looked: Mapping[NamedTable, Finding | ConfigurationError], home: str
) -> dict[NamedTable, Finding | ConfigurationError]:
    """Besides, partitions that went with their rows, of which no trigger was told."""
    parted = {
        each.shape.shape: each.table
        for each in looked.values()
        if isinstance(each, Finding) and each.shape and each.table.kind == "p"
    }
    if not parted:
        return dict(looked)
    operations = (*sql.OPERATIONS, sql.TRUNCATE)
    functions = [f"actionbus_image_{shape}_{operation}" for shape in parted for operation in operations]
    members = [member.relation for table in parted.values() for member in table.members]
    gone = detached(connection, functions, members, home.replace('"', ""))
    return {asked: _without(each, gone) if isinstance(each, Finding) else each for asked, each in looked.items()}


def _without(each: Finding, gone: Mapping[int, Sequence[str]]) -> Finding:
    names = gone.get(each.shape.shape, ()) if each.shape else ()
    told = [f"rows of {each.table.name} went unseen with {name}, which is its partition no longer" for name in names]
    there = [*((member.relation, member.sql) for member in each.table.members), *((0, name) for name in names)]
    known, called = {relation for relation, _ in there}, {name for _, name in there}  # in a restored database by name
    dropped = [name for relation, name in sql.noted(each.table).items() if relation not in known and name not in called]
    told += [
        f"rows of {each.table.name} may have gone unseen with {name}, which is there no longer" for name in dropped
    ]
    return each._replace(lost=(*map(LossReason, told), *each.lost), detached=tuple(names))


def _shape_of(table: CatalogueTable, shapes: Mapping[int, Shape]) -> Shape | None:
    """The shape that its triggers write under: their function's name says it, in a restored database too."""
    numbers = {
        int(parts[0])
        for (relation, _), trigger in table.triggers.items()
        if relation == table.relation or table.kind == "p"
        for parts in [trigger.function.removeprefix("actionbus_image_").split("_")]
        if parts[0].isdecimal()
    }
    return shapes.get(max(numbers)) if numbers else None


def changes(table: CatalogueTable, shape: Shape) -> list[str]:
    """How a table's columns differ from those of its shape."""
    now, then = dict(_typed(table)), dict(zip(shape.columns, shape.types, strict=True))
    changed = [f"{table.name}.{name} is not recorded yet" for name in now if name not in then]
    changed += [f"{table.name}.{name} is gone, or withheld" for name in then if name not in now]
    if not changed and (tuple(now) != shape.columns or now != then or table.withheld != shape.withheld):
        changed.append(f"the columns of {table.name} are others than those recorded")
    return changed


def _rewrites(table: CatalogueTable, shape: Shape) -> Iterator[str]:
    """What has changed recorded rows, or makes their keys others, though no trigger saw it."""
    now, then = dict(_typed(table)), dict(zip(shape.columns, shape.types, strict=True))
    for name in now:
        if then.get(name, now[name]) != now[name]:
            yield f"{name} was {then[name]} and is {now[name]}"
    if table.name != shape.table_name:
        yield f"its name was {shape.table_name}"
    if len(table.key) != len(shape.key) or (table.key != shape.key and set(shape.key) <= set(now)):
        yield f"its key was ({', '.join(shape.key)}) and is ({', '.join(table.key)})"


def _typed(table: CatalogueTable) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.columns]


@contextmanager
def pinned(connection: Connection, *, path: bool = True) -> Iterator[None]:
    """Names and types are written and read in one way, whatever the session's `search_path`."""
    with set_for(connection, {"search_path": "pg_catalog, pg_temp"} if path else {}):
        yield


@contextmanager
def set_for(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Set for a while, within the transaction. After an error the database puts them back."""
    one = text("SELECT current_setting(:name), set_config(:name, :value, true)")
    before = {
        name: connection.execute(one, {"name": name, "value": value}).one()[0] for name, value in settings.items()
    }
    yield
    for name, value in before.items():
        connection.execute(one, {"name": name, "value": value})
