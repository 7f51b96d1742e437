"""What a sandbox has to know of SQLAlchemy that it does not offer: all its private names stand here, and nowhere else.

`tests/replay/sandbox/test_sqlalchemy_inside.py` has a canary for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Column, Engine, Insert
from sqlalchemy.engine import NestedTransaction
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.sql.elements import ClauseElement, ColumnElement, Grouping

Values = Mapping[str, Any]


def single_of(statement: Insert) -> dict[str, Any]:
    """The values in an INSERT of one row, by the columns' keys."""
    found: Any = statement._values or {}
    return {_key(name): value for name, value in found.items()}


def with_values(statement: Insert, values: Values) -> Insert:
    """The same INSERT of one row with other values, by the columns' keys."""
    found: Any = statement._values or {}
    named = {_key(name): name for name in found}
    return statement.values({named.get(key, key): value for key, value in values.items()}) if values else statement


def rows_of(statement: Insert) -> list[dict[str, Any]]:
    """The values in an INSERT whose VALUES has several rows."""
    found: Any = statement._multi_values
    return [{_key(name): value for name, value in row.items()} for rows in found for row in rows]


def with_rows(statement: Insert, rows: Sequence[Values]) -> Insert:
    """The same INSERT with other rows."""
    fresh = statement._generate()
    fresh._multi_values = ()
    return fresh.values(list(rows))


def may_conflict(statement: Insert) -> bool:
    """Whether an INSERT says what to do about rows that are there already."""
    return getattr(statement, "_post_values_clause", None) is not None


def plain(value: Any) -> Any:
    """What a bound parameter holds; of anything else itself."""
    return value.value if isinstance(value, BindParameter) else value


def is_expression(value: Any) -> bool:
    """Whether the database is to compute it."""
    return isinstance(value, ClauseElement) and not isinstance(value, BindParameter)


def computed(parameter: BindParameter[Any]) -> ColumnElement[Any]:
    """A parameter as something that the database computes, so that it is asked what came of it.

    SQLAlchemy asks nothing back of which it has the value, and the ORM then knows nothing of one that was given late.
    """
    return Grouping(parameter)


def name_of(savepoint: NestedTransaction) -> str:
    """The name of a savepoint, as SQL has it."""
    name: str = savepoint._savepoint
    return name


def tell_defaults(engine: Engine, told: Callable[[DefaultExecutionContext], None]) -> None:
    """Have a function called for every statement whose parameters hold what columns' callables made."""

    class Context(engine.dialect.execution_ctx_cls):  # type: ignore[name-defined, misc]
        """Tells it."""

        def _process_execute_defaults(self) -> None:
            super()._process_execute_defaults()
            told(self)

    engine.dialect.execution_ctx_cls = Context


def made_of_inserts(context: DefaultExecutionContext) -> list[tuple[Column[Any], str]]:
    """The columns whose callables made values for an INSERT, with the names that these have among its parameters."""
    return _made(context, "insert_prefetch")


def made_of_updates(context: DefaultExecutionContext) -> list[tuple[Column[Any], str]]:
    """The same of an UPDATE."""
    return _made(context, "update_prefetch")


def _made(context: DefaultExecutionContext, what: str) -> list[tuple[Column[Any], str]]:
    compiled: Any = context.compiled
    name = compiled._within_exec_param_key_getter
    return [(column, name(column)) for column in getattr(compiled, what) if _is_made(column, what)]


def _is_made(column: Column[Any], what: str) -> bool:
    default = column.default if what == "insert_prefetch" else column.onupdate
    return default is not None and not default.is_scalar


def _key(name: Any) -> str:
    return name if isinstance(name, str) else str(name.key)
