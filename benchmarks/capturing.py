"""What recording rows costs on PostgreSQL: speed with triggers, of the speed without; interleaved, medians of rounds.

Run by hand: `python -m benchmarks.capturing`. It starts a PostgreSQL of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, insert, text, update

from actionbus import Application, Bus
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from actionbus.core.storage.ddl import verbatim
from benchmarks.cost import Cost, ServerCpu
from tests.servers import Server

ROWS = 10_000
ROUNDS = 5
COLUMNS = (
    "id int PRIMARY KEY, name text, kind varchar(20), price numeric(10, 2), at timestamptz DEFAULT now(), "
    "score float8, is_on boolean, note text"
)
SOURCE = "SELECT g, 'name ' || g, 'kind', g / 7.0, now(), g / 3.0, g % 2 = 0, 'a note that is not short' "
Work = Callable[[Connection, Table], None]


def _sent(connection: Connection, table: Table) -> None:
    one = {"kind": "kind", "is_on": True, "note": "a note"}
    rows = [{**one, "id": g, "name": f"name {g}", "price": g, "score": g / 3} for g in range(ROWS)]
    connection.execute(insert(table), rows)


def _updates_sent(connection: Connection, table: Table) -> None:
    for number in range(1_000):
        connection.execute(update(table).where(table.c.id == number).values(name="other"))


def _run(connection: Connection, statement: str) -> None:
    connection.execute(verbatim(statement))


def _sql(template: str) -> Work:
    return lambda connection, table: _run(connection, template.format(t=table.name))


WORKS: dict[str, tuple[Work, bool]] = {
    "10,000 rows sent": (_sent, False),
    "INSERT … SELECT": (_sql(f"INSERT INTO {{t}} {SOURCE} FROM generate_series(1, {ROWS}) g"), False),
    "UPDATE": (_sql("UPDATE {t} SET name = name || '!'"), True),
    "DELETE": (_sql("DELETE FROM {t}"), True),
    "1,000 UPDATEs of a row, sent": (_updates_sent, True),
    "1,000 UPDATEs of a row, in the server": (
        _sql("DO $$BEGIN FOR g IN 1..1000 LOOP UPDATE {t} SET name = 'x' WHERE id = g; END LOOP; END$$"),
        True,
    ),
    "1,000 INSERTs of a row, in the server": (
        _sql(f"DO $$BEGIN FOR g IN 1..1000 LOOP INSERT INTO {{t}} {SOURCE}; END LOOP; END$$"),
        False,
    ),
}


def measure(engine: Engine, tables: tuple[Table, Table]) -> None:
    """Print a line for each kind of work, done as an action would."""
    server = ServerCpu(engine.url)
    print(f"{'':<40} {'without':>11} {'recorded':>11}   ratio; the server's CPU, and the ratio of that")
    for name, (work, is_filled) in WORKS.items():
        taken: dict[str, list[Cost]] = {table.name: [] for table in tables}
        for _ in range(ROUNDS):
            for table in tables:
                taken[table.name].append(_spent(engine, server, table, work, is_filled))
        clock, _, served = ([statistics.median(c) / 1e6 for c in each] for each in zip(*_columns(taken), strict=True))
        print(
            f"{name:<40} {clock[0]:8.1f} ms {clock[1]:8.1f} ms   {clock[0] / clock[1]:.2f}; "
            f"{served[0]:8.1f} ms {served[1]:8.1f} ms   {served[0] / served[1]:.3f}"
        )


def _columns(taken: dict[str, list[Cost]]) -> list[list[tuple[int, ...]]]:
    """Of each table what was spent of each kind, round by round."""
    return [list(zip(*each, strict=True)) for each in taken.values()]


def _spent(engine: Engine, server: ServerCpu, table: Table, work: Work, is_filled: bool) -> Cost:
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('actionbus.action', 'a0b1c2d3a0b1c2d3a0b1c2d3a0b1c2d3', true)"))
        _run(connection, f"TRUNCATE {table.name}")
        if is_filled:
            _run(connection, f"INSERT INTO {table.name} {SOURCE} FROM generate_series(1, {ROWS}) g")
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('actionbus.action', 'a0b1c2d3a0b1c2d3a0b1c2d3a0b1c2d3', true)"))
        before = Cost.begin(server)
        work(connection, table)
        return Cost.so_far(server).since(before)


def main() -> None:
    """Measure on a server of its own."""
    server = Server()
    try:
        bus = Bus(Application(name="capturing", actions=[]), server.database())
        bus.journal.create()
        tables = _made(bus)
        measure(bus.engine, tables)
        bus.close()
    finally:
        server.close()


def _made(bus: Bus) -> tuple[Table, Table]:
    with bus.engine.begin() as connection:
        for name in ("plain", "recorded"):
            connection.exec_driver_sql(f"CREATE TABLE {name} ({COLUMNS})")
        install(bus.backend, connection, [TableWanted("recorded")])
        metadata: Any = MetaData()
        return tuple(Table(name, metadata, autoload_with=connection) for name in ("plain", "recorded"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
