"""Notes which rows an action's statements touched; `gateway.sql_events` feeds it, the outcome carries what it found.

Every statement SQLAlchemy writes passes here as Core DML, an ORM flush included. A statement that would not tell its
rows is given RETURNING first (`prepared`), and the rows are taken from its result afterwards (`note`). What cannot be
known is said: `incomplete` lists why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, CursorResult, Delete, Insert, Table, Update, and_, select
from sqlalchemy.engine.cursor import _NO_RESULT_METADATA
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from actionbus.core.secrecy.scrubbing import SCRUBBED, Scrubber
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits

Dml = Insert | Update | Delete
_OPERATIONS: Final = {Insert: "insert", Update: "update", Delete: "delete"}


@dataclass(slots=True)
class Touch:
    """One row written: `values` are the columns written, `generated` those of them that no caller gave."""

    table: str
    key: tuple[Any, ...]
    operation: str
    values: dict[str, Any]
    generated: dict[str, Any]


@dataclass(slots=True)
class _Shape:
    """What a statement's form tells of the rows it will touch; worked out once per statement object."""

    table: Table | None = None
    why_not: str | None = None
    key_binds: tuple[BindParameter[Any], ...] | None = None
    rewritten: Any = None
    drain: bool = False
    operation: str = ""


class RowRecorder:
    """The rows that one action touched, in order."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.touched_rows
        self.rows: list[Touch] = []
        self.incomplete: dict[str, None] = {}

    def add(self, touch: Touch) -> None:
        """Note a row; beyond the limit only that there were more."""
        if len(self.rows) < self._limit:
            self.rows.append(touch)
        else:
            self.incomplete[f"more than {self._limit} rows"] = None

    def unknown(self, why: str) -> None:
        """Note that rows were, or may have been, touched that cannot be named."""
        self.incomplete[why] = None

    def shown(self, scrubber: Scrubber) -> dict[str, Any] | None:
        """What the journal keeps; None when nothing was written."""
        if not self.rows and not self.incomplete:
            return None
        told: dict[str, Any] = {"rows": [_shown(touch, scrubber) for touch in self.rows]}
        if self.incomplete:
            told["incomplete"] = list(self.incomplete)
        return told


def _shown(touch: Touch, scrubber: Scrubber) -> dict[str, Any]:
    told: dict[str, Any] = {
        "table": touch.table,
        "key": [scrubber.json(_scalar(part)) for part in touch.key],
        "op": touch.operation,
    }
    if touch.values:
        told["columns"] = sorted(touch.values)
        told["digest"] = digest(touch.values, scrubber)
    if touch.generated:
        told["generated"] = {name: scrubber.json(_written(value)) for name, value in touch.generated.items()}
    return told


def digest(values: Mapping[str, Any], scrubber: Scrubber) -> str:
    """BLAKE2b of the values by column, 16 hexadecimal digits. Secrets do not enter: a digest can be guessed.

    Nor does what was scrubbed before it came here, so that a replay has the same digest.
    """
    hashed = hashlib.blake2b(digest_size=8)
    for name in sorted(values):
        value = values[name]
        text = SCRUBBED if scrubber and _is_secret(value, scrubber) else _canonical(value)
        hashed.update(f"{name}={text}\n".encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _is_secret(value: Any, scrubber: Scrubber) -> bool:
    return (isinstance(value, str) and SCRUBBED in value) or scrubber.holds(value)


def _canonical(value: Any) -> str:
    if value is None or type(value) in (str, int, float, bool):
        return repr(value)
    try:
        return payload.dumps(tagged.encode(value))
    except (ValueError, RecursionError):
        return f"({type(value).__name__})"


def _scalar(value: Any) -> Any:
    return value if type(value) in (str, int) else str(value)


def _written(value: Any) -> Any:
    try:
        return tagged.encode(value)
    except tagged.Opaque:
        return {"$": "opaque", "value": type(value).__name__}


_Variant = tuple[bool, frozenset[str] | None]
"""What else a shape depends on: whether there are many parameter sets and, of an INSERT, the columns that they give."""
_shapes: WeakKeyDictionary[Any, dict[_Variant, _Shape]] = WeakKeyDictionary()


def prepared(statement: Dml, params: Sequence[Mapping[str, Any]], connection: Connection) -> Dml:
    """The statement to run instead, so that its rows can be known; usually the same one."""
    shape = _shape_of(statement, params, connection)
    return statement if shape.rewritten is None else shape.rewritten


def note(
    recorder: RowRecorder,
    statement: Dml,
    params: Sequence[Mapping[str, Any]],
    result: CursorResult[Any],
    connection: Connection,
) -> None:
    """Take the rows that `statement`, as `prepared` returned it, touched."""
    shape = _shape_of(statement, params, connection)
    if shape.why_not is not None:
        recorder.unknown(shape.why_not)
    elif shape.drain or statement._returning:
        _from_returned(recorder, statement, shape, result)
    elif isinstance(statement, Insert):
        _from_insert(recorder, shape, result)
    elif shape.key_binds is None:
        _from_defaults(recorder, statement, shape, result)
    else:
        _from_keys(recorder, shape, params, result, connection)


def _shape_of(statement: Dml, params: Sequence[Mapping[str, Any]], connection: Connection) -> _Shape:
    many = len(params) > 1
    variant = (many, frozenset(params[0]) if params and isinstance(statement, Insert) else None)
    variants = _shapes.get(statement)
    if variants is None:
        variants = _shapes[statement] = {}
    shape = variants.get(variant)
    if shape is None:
        shape = variants[variant] = _work_out(statement, params, connection, many)
        if shape.rewritten is not None:
            told = _Shape(shape.table, drain=shape.drain, operation=shape.operation)
            _shapes.setdefault(shape.rewritten, {})[variant] = told
    return shape


def _work_out(statement: Dml, params: Sequence[Mapping[str, Any]], connection: Connection, many: bool) -> _Shape:
    table = statement.table
    operation = next(name for kind, name in _OPERATIONS.items() if isinstance(statement, kind))
    if not isinstance(table, Table):
        return _Shape(why_not=f"{operation} of something that is not a table")
    if not table.primary_key.columns:
        return _Shape(why_not=f"{operation} in {table.fullname}, which has no primary key")
    shape = _Shape(table, operation=operation)
    if statement._returning:
        return shape
    if isinstance(statement, Insert):
        return _insert_shape(statement, shape, params, connection)
    shape.key_binds = _key_binds(statement, table)
    if shape.key_binds is None:
        able = connection.dialect.update_returning if operation == "update" else connection.dialect.delete_returning
        if many or not able:
            return _Shape(why_not=f"{operation} in {table.fullname}, many at once without their keys")
        # Implicit RETURNING: SQLAlchemy fetches its rows itself, and the author's result stays one without rows.
        shape.rewritten = statement.return_defaults(*table.c)
    return shape


def _insert_shape(
    statement: Insert, shape: _Shape, params: Sequence[Mapping[str, Any]], connection: Connection
) -> _Shape:
    assert shape.table is not None
    if statement._post_values_clause is not None:
        shape.operation = "upsert"
    if statement._multi_values or statement.select is not None or shape.operation == "upsert":
        if not connection.dialect.insert_returning or len(params) > 1:
            return _Shape(why_not=f"{shape.operation} in {shape.table.fullname}, many at once without their keys")
        shape.rewritten, shape.drain = statement.returning(*shape.table.c), True
    elif not statement._return_defaults:
        given = {_key(name) for name in statement._values or ()} | set(params[0] if params else ())
        absent = [column for column in shape.table.c if column.key not in given and _made_by_database(column)]
        if absent and connection.dialect.insert_executemany_returning:
            in_order = len(params) > 1
            shape.rewritten = statement.return_defaults(*absent, sort_by_parameter_order=in_order)
    return shape


def _made_by_database(column: Column[Any]) -> bool:
    if column.server_default is not None or column.identity is not None or column.computed is not None:
        return True
    return column.primary_key and column.default is None


def _key(name: Any) -> str:
    return name if isinstance(name, str) else str(name.key)


def _key_binds(statement: Update | Delete, table: Table) -> tuple[BindParameter[Any], ...] | None:
    """The bound values of `WHERE key = :value` for every column of the primary key, or None."""
    found: dict[Any, BindParameter[Any]] = {}
    for clause in _conjuncts(statement._where_criteria):
        if (
            isinstance(clause, BinaryExpression)
            and clause.operator is operators.eq
            and isinstance(clause.right, BindParameter)
            and isinstance(clause.left, Column)
            and getattr(clause.left.table, "fullname", None) == table.fullname
        ):
            found[clause.left.key] = clause.right
    keys = [column.key for column in table.primary_key.columns]
    return tuple(found[key] for key in keys) if all(key in found for key in keys) else None


def _conjuncts(clauses: Iterable[Any]) -> Iterable[Any]:
    for clause in clauses:
        clause = getattr(clause, "_deannotate", lambda clause=clause: clause)()
        if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
            yield from _conjuncts(clause.clauses)
        else:
            yield clause


def _from_returned(recorder: RowRecorder, statement: Dml, shape: _Shape, result: CursorResult[Any]) -> None:
    """Rows of RETURNING: taken for good where we asked for them, given back where the statement's author did."""
    table = shape.table
    assert table is not None
    rows = result.all()
    if shape.drain:
        count = result.context.cursor.rowcount
        result._metadata = _NO_RESULT_METADATA
        result.context._rowcount = len(rows) if count < 0 else count
    else:
        result._rewind(rows)
    written = _written_columns(statement, table, result)
    given = _given_columns(statement, result)
    for row in rows:
        mapping = row._mapping
        if any(column not in mapping for column in table.primary_key.columns):
            recorder.unknown(f"{shape.operation} in {table.fullname} with a RETURNING that leaves out the key")
            return
        key = tuple(mapping[column] for column in table.primary_key.columns)
        values = {c.key: mapping[c] for c in written if c in mapping} if shape.operation != "delete" else {}
        made = {c.key: mapping[c] for c in table.c if c in mapping and _made_by_database(c) and c.key not in given}
        generated = made if shape.operation in ("insert", "upsert") else {}
        recorder.add(Touch(table.fullname, key, shape.operation, values | generated, generated))


def _from_defaults(recorder: RowRecorder, statement: Update | Delete, shape: _Shape, result: CursorResult[Any]) -> None:
    """Rows that an UPDATE or DELETE without a key was made to tell; what was bound is not in them."""
    table = shape.table
    assert table is not None
    bound = result.context.compiled_parameters[0]
    written = _written_columns(statement, table, result) if shape.operation == "update" else []
    for row in result.returned_defaults_rows or []:
        told = {column.key: row._mapping[column] for column in table.c if column in row._mapping}
        key = tuple(told.get(column.key, bound.get(column.key)) for column in table.primary_key.columns)
        values = {column.key: told.get(column.key, bound.get(column.key)) for column in written}
        recorder.add(Touch(table.fullname, key, shape.operation, values, {}))


def _written_columns(statement: Dml, table: Table, result: CursorResult[Any]) -> list[Column[Any]]:
    if isinstance(statement, Insert):
        return list(table.c)
    compiled = _compiled(result)
    names = {_key(name) for name in getattr(statement, "_values", None) or ()}
    names |= {_key(pair[0]) for pair in getattr(statement, "_ordered_values", None) or ()}
    names |= {column.key for column in (*compiled.postfetch, *(compiled.update_prefetch or ()))}
    names |= set(result.context.compiled_parameters[0])
    return [column for column in table.c if column.key in names]


def _given_columns(statement: Dml, result: CursorResult[Any]) -> set[str]:
    """The columns whose values the author gave."""
    if isinstance(statement, Insert) and statement._multi_values:
        return {_key(name) for rows in statement._multi_values for row in rows for name in row}
    if isinstance(statement, Insert) and statement.select is not None:
        return {_key(name) for name in statement._select_names or ()}
    return set(result.context.compiled_parameters[0])


def _from_insert(recorder: RowRecorder, shape: _Shape, result: CursorResult[Any]) -> None:
    table, context = shape.table, result.context
    assert table is not None
    keys = result.inserted_primary_key_rows
    returned = result.returned_defaults_rows or []
    made_here = [column.key for column in _compiled(result).insert_prefetch]
    for number, params in enumerate(context.compiled_parameters):
        values = {c.key: params[c.key] for c in table.c if c.key in params}
        generated = {name: values[name] for name in made_here if name in values}
        if number < len(returned):
            told = returned[number]._mapping
            generated |= {c.key: told[c] for c in table.c if c in told and c.key not in values}
        key = _key_of(table, keys[number] if number < len(keys) else None, {**values, **generated})
        if key is None:
            recorder.unknown(f"insert in {table.fullname}, whose key the database did not tell")
            continue
        for column, part in zip(table.primary_key.columns, key, strict=True):
            if column.key not in values:
                generated[column.key] = part
        recorder.add(Touch(table.fullname, key, "insert", values | generated, generated))


def _key_of(table: Table, told: Any, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if told is not None and all(part is not None for part in told):
        return tuple(told)
    names = [column.key for column in table.primary_key.columns]
    return tuple(values[name] for name in names) if all(values.get(name) is not None for name in names) else None


def _from_keys(
    recorder: RowRecorder,
    shape: _Shape,
    params: Sequence[Mapping[str, Any]],
    result: CursorResult[Any],
    connection: Connection,
) -> None:
    table, context = shape.table, result.context
    assert table is not None
    assert shape.key_binds is not None
    if result.rowcount == 0:
        return
    if len(params) > 1 and result.rowcount not in (len(params), -1):
        recorder.unknown(
            f"{shape.operation} in {table.fullname}: only {result.rowcount} of {len(params)} keys were there"
        )
        return
    in_where = {bind.key for bind in shape.key_binds}
    unknown = {column.key: column for column in _compiled(result).postfetch or ()}
    for number, compiled in enumerate(context.compiled_parameters):
        given = params[number] if number < len(params) else {}
        key = tuple(given.get(bind.key, bind.effective_value) for bind in shape.key_binds)
        values: dict[str, Any] = {}
        if shape.operation == "update":
            values = {c.key: compiled[c.key] for c in table.c if c.key in compiled and c.key not in in_where}
            if unknown:
                values |= _read_back(connection, table, key, list(unknown.values()))
        recorder.add(Touch(table.fullname, key, shape.operation, values, {}))


def _read_back(connection: Connection, table: Table, key: Sequence[Any], columns: list[Column[Any]]) -> dict[str, Any]:
    """Values that the database worked out itself (`n = n + 1`), asked for since nothing else tells them."""
    by_key = and_(*(column == part for column, part in zip(table.primary_key.columns, key, strict=True)))
    row = connection.execute(select(*columns).where(by_key)).first()
    return {column.key: part for column, part in zip(columns, row, strict=True)} if row else {}


def _compiled(result: CursorResult[Any]) -> Any:
    """The compiled statement, with what only compiled DML has."""
    return result.context.compiled
