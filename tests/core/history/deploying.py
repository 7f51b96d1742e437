"""Three deploys of one application: their code, the migrations between them, and copies of all tables after each write.

Used by `test_three_deploys.py`. The second deploy has a bug, which the third has not; actions are renamed and deleted.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, ForeignKey, MetaData, Numeric, Table, create_engine
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted

HANDLER = '''"""{name}: an action of this deploy."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg


class {camel}(ActionHandler):
    """Write what was asked for."""

    requires = ("session",)
    session: Session
    arguments = {{{arguments}}}

    def execute(self) -> dict[str, Any]:
        for sql in {statements}:
            self.session.execute(text(sql), {{name: getattr(self.args, name) for name in self.arguments}})
        return {{}}
'''
KINDS = {"id": "int", "item": "int", "price": "int", "many": "int", "name": "str", "who": "str"}
ADD = (
    "INSERT INTO items (id, name, price, {note}) VALUES (:id, :name, :price, {value}) "
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
)
ORDER = (
    "INSERT INTO orders (id, item, {many}, placed) VALUES (:id, :item, :many, CURRENT_TIMESTAMP) "
    "ON CONFLICT (id) DO UPDATE SET {many} = excluded.{many}",
    "INSERT INTO lines (orders, number, label) VALUES (:id, :many, 'line ' || CAST(:item AS text)) ON CONFLICT DO NOTHING",
)
DROP = ("DELETE FROM items WHERE id = :id",)
CODES: list[dict[str, tuple[str, tuple[str, ...]]]] = [
    {
        "add_item": ("id name price", (ADD.format(note="note", value="'first'"),)),
        "set_price": ("id price", ("UPDATE items SET price = :price WHERE id = :id",)),
        "place_order": ("id item many", tuple(each.format(many="quantity") for each in ORDER)),
        "visit": ("who", ("INSERT INTO visits (who, page) VALUES (:who, '/')",)),
        "drop_item": ("id", DROP),
        "clear_visits": ("", ("{clear}",)),
    },
    {
        "add_item": ("id name price", (ADD.format(note="currency", value="'USD'"),)),
        "price_item": ("id price", ("UPDATE items SET price = :price * 10, currency = 'USD' WHERE id = :id",)),
        "place_order": ("id item many", tuple(each.format(many="amount") for each in ORDER)),
        "visit": ("who", ("INSERT INTO visits (who, page) VALUES (:who, '/'), (:who, '/')",)),
        "drop_item": ("id", ("DELETE FROM lines WHERE orders IN (SELECT id FROM orders WHERE item = :id)", *DROP)),
        "clear_visits": ("", ("{clear}",)),
    },
    {
        "add_item": ("id name price", (ADD.format(note="currency", value="'CHF'"),)),
        "price_item": ("id price", ("UPDATE items SET price = CAST(:price AS numeric) / 4 WHERE id = :id",)),
        "place_order": ("id item many", tuple(each.format(many="amount") for each in ORDER)),
        "visit": ("who", ("INSERT INTO visits (visitor, page) VALUES (:who, '/new')",)),
        "move_line": ("id many", ("UPDATE lines SET number = number + 100 WHERE orders = :id AND number = :many",)),
        "clear_visits": ("", ("{clear}",)),
    },
]
TABLES = {
    "postgresql": [
        "CREATE TABLE items (id int PRIMARY KEY, name text, price int, note text)",
        "CREATE TABLE orders (id int PRIMARY KEY, item int REFERENCES items ON DELETE CASCADE, quantity int, placed timestamptz)",
        "CREATE TABLE lines (orders int, number int, label text, PRIMARY KEY (orders, number))",
        "CREATE TABLE visits (who text, page text)",
    ],
    "sqlite": [
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price INTEGER, note TEXT)",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item INTEGER REFERENCES items ON DELETE CASCADE, quantity INTEGER, placed)",
        "CREATE TABLE lines (orders INTEGER, number INTEGER, label TEXT, PRIMARY KEY (orders, number))",
        "CREATE TABLE visits (who TEXT, page TEXT)",
    ],
}
KEYS: dict[str, tuple[str, ...]] = {"items": ("id",), "orders": ("id",), "lines": ("orders", "number"), "visits": ()}
BYPASSES = [
    [
        "UPDATE items SET price = price + 1 WHERE id <= {n}",
        "DELETE FROM orders WHERE id = {n}",
        "INSERT INTO visits VALUES ('eve', '/{n}'), ('eve', '/{n}')",
        "UPDATE items SET id = id + 50 WHERE id = {n} AND NOT EXISTS (SELECT 1 FROM orders WHERE item = {n}) "
        "AND NOT EXISTS (SELECT 1 FROM items WHERE id = {n} + 50)",
    ],
    [
        "UPDATE items SET currency = 'XXX' WHERE id = {n}",
        "UPDATE orders SET amount = -1 WHERE id = {n}",
        "DELETE FROM visits WHERE who = 'ann'",
        "UPDATE lines SET label = NULL WHERE number = {n}",
    ],
    [
        "UPDATE items SET price = 0.25 WHERE id = {n}",
        "UPDATE visits SET page = '/{n}'",
        "INSERT INTO visits VALUES ('eve', NULL)",
        "UPDATE orders SET id = id + 50 WHERE id = {n} AND NOT EXISTS (SELECT 1 FROM orders WHERE id = {n} + 50)",
    ],
]


class Copy(NamedTuple):
    """What stood in a table."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


Copies = dict[str, Copy]


class Shop:
    """The application in the hands of three deploys in turn; remembers what all tables held at each position."""

    def __init__(self, url: URL, folder: Path, seed: int, psql: str) -> None:
        self.url, self.folder, self.psql = url, folder, psql
        self.chance = random.Random(seed)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = create_engine(url)
        self.copies: dict[int, Copies] = {}
        self.sources: dict[int, str | None] = {}
        """By position that wrote: the action's name, None for a bypass."""
        self.migrations: list[int] = []
        """The first position of each: that of its record on PostgreSQL, the next one on SQLite."""
        self.began: dict[str, list[int]] = {name: [] for name in KEYS}
        """By table: the positions of its baselines."""
        for number, code in enumerate(CODES, 1):
            self._write_package(number, code)
        self.run(*TABLES["sqlite" if self.is_sqlite else "postgresql"])
        with self.opened(1) as bus:
            bus.journal.create()
        self.now = self.copy()
        self.last = 0
        self.renew()

    def _write_package(self, number: int, code: dict[str, tuple[str, tuple[str, ...]]]) -> None:
        package = self.folder / f"deploy_{number}"
        package.mkdir()
        (package / "__init__.py").touch()
        clear = "DELETE FROM visits" if self.is_sqlite else "TRUNCATE visits"
        for name, (asked, statements) in code.items():
            arguments = ", ".join(f'"{each}": Arg({KINDS[each]}, required=True)' for each in asked.split())
            source = HANDLER.format(
                name=name,
                camel=name.title().replace("_", ""),
                arguments=arguments,
                statements=tuple(each.replace("{clear}", clear) for each in statements),
            )
            (package / f"{name}.py").write_text(source)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def opened(self, number: int) -> Iterator[Bus]:
        """A bus with the code of one deploy."""
        bus = Bus(Application("shop", actions=[f"deploy_{number}"], release=f"{number}.0"), self.url)
        yield bus
        bus.close()

    def run(self, *statements: str) -> None:
        """By the driver alone, in one transaction past the gateway."""
        connection: Any
        if self.is_sqlite:
            connection = sqlite3.connect(str(self.url.database))
            connection.execute("PRAGMA foreign_keys = ON")
        else:
            connection = psycopg2.connect(self.url.set(drivername="postgresql").render_as_string(hide_password=False))
        for each in statements:
            connection.cursor().execute(each)
        connection.commit()
        connection.close()

    def run_by_hand(self, statement: str) -> None:
        """As somebody does at a terminal."""
        if not self.is_sqlite:
            url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
            command = [self.psql, "-qX", url, "-c", statement]
        elif found := shutil.which("sqlite3"):
            command = [found, str(self.url.database), statement]
        else:
            script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
            command = [sys.executable, "-c", script, str(self.url.database), statement]
        subprocess.run(command, check=True)

    def copy(self) -> Copies:
        """All tables, with the values that the driver gives."""
        found = {}
        with self.engine.connect() as connection:
            for name in KEYS:
                result = connection.exec_driver_sql(f"SELECT * FROM {name}")
                found[name] = Copy(tuple(result.keys()), [tuple(row) for row in result])
        return found

    def work(self, deploy: int, steps: int) -> None:
        """Actions of a deploy at random, and writes past the gateway in between."""
        with self.opened(deploy) as bus:
            for _ in range(steps):
                if self.chance.random() < 0.25:
                    self._bypass(deploy)
                else:
                    self._act(bus, deploy)

    def _bypass(self, deploy: int) -> None:
        sql = self.chance.choice(BYPASSES[deploy - 1]).format(n=self.chance.randint(1, 9))
        if self.chance.random() < 0.1:
            self.run_by_hand(sql)
        else:
            self.run(sql)
        self.note()

    def _act(self, bus: Bus, deploy: int) -> None:
        names = [*CODES[deploy - 1]]
        name = self.chance.choice([*names[:4] * 5, *names[4:]])
        made: dict[str, Callable[[], Any]] = {
            "id": lambda: self.chance.randint(1, 9),
            "item": lambda: self.chance.randint(1, 9),
            "price": lambda: self.chance.randint(1, 500),
            "many": lambda: self.chance.randint(1, 3),
            "name": lambda: self.chance.choice(["", 'Ünlü, "x"', "a\\b", "lamp"]),
            "who": lambda: self.chance.choice(["ann", "bob"]),
        }
        arguments = {each: made[each]() for each in CODES[deploy - 1][name][0].split()}
        with suppress(Exception):  # a foreign key, a key that is taken: it fails, and leaves nothing
            bus.execute(name, arguments, actor="ann")
        self.note()

    def note(self) -> None:
        """Which state each new position has. Between an action's records, a bypass on SQLite is what was before it."""
        before, self.now = self.now, self.copy()
        for position, kind, name, status in self._records():
            if kind == "bypass" or status == "succeeded":
                self.sources[position] = name or None
                self._settled = before if kind == "bypass" and self.is_sqlite else self.now
            self.copies[position] = self._settled
            self.last = position

    def _records(self) -> list[tuple[int, str, str, str | None]]:
        sql = f"SELECT position, kind, action, status FROM journal WHERE position > {self.last} ORDER BY position"
        with self.engine.connect() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.exec_driver_sql(sql)]

    def renew(self, *, baseline: bool = False) -> None:
        """Put the triggers right, as `db upgrade --models` does."""
        before = self.now
        with self.opened(1) as bus, bus.engine.begin() as connection:
            install(bus.backend, connection, [TableWanted(name) for name in KEYS], baseline=baseline)
        self.now = self.copy()
        sql = "SELECT position, context FROM journal WHERE kind = 'bypass' ORDER BY position"
        with self.engine.connect() as connection:
            found = [(row[0], str(row[1])) for row in connection.exec_driver_sql(sql)]
        for position, context in found:
            if position > self.last:
                is_own = "baseline" in context
                self.copies[position] = self.now if is_own else before
                self.sources[position] = None
                for name in KEYS if is_own else ():
                    if f"'{name}'" in context or f'"{name}"' in context or f".{name}'" in context:
                        self.began[name].append(position)
                self.last = position
        self._settled = self.now
        self.migrations.append(self.last + self.is_sqlite)

    def migrate(self, number: int) -> None:
        """The migration after a deploy, as Alembic does it."""
        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            with context.begin_transaction():
                (_first, _second)[number - 1](Operations(context), self.is_sqlite)
            connection.commit()
        self.renew()


def _first(op: Operations, is_sqlite: bool) -> None:
    op.execute("ALTER TABLE items ADD COLUMN currency text NOT NULL DEFAULT 'EUR'")
    op.execute("ALTER TABLE orders RENAME COLUMN quantity TO amount")


def _second(op: Operations, is_sqlite: bool) -> None:
    if not is_sqlite:
        op.alter_column("items", "price", type_=Numeric(12, 2))
        op.drop_column("items", "note")
        op.alter_column("visits", "who", new_column_name="visitor")
        return
    metadata = MetaData()
    items = Table("items", metadata, Column("id", primary_key=True))
    Table("orders", metadata, Column("item", ForeignKey(items.c.id)))
    with op.batch_alter_table("items", recreate="always") as batch:
        batch.alter_column("price", type_=Numeric(12, 2))
        batch.drop_column("note")
    with op.batch_alter_table("visits", recreate="always") as batch:
        batch.alter_column("who", new_column_name="visitor")


def counted(copy: Copy) -> Counter[Any]:
    """Rows as a multiset, equal only where types are too."""
    return Counter(exact(row) for row in copy.rows)


def exact(row: Any) -> tuple[tuple[str, str], ...]:
    """Values with their types; a moment as one, whatever its offset."""
    return tuple(
        (type(each).__name__, str(each.timestamp()) if hasattr(each, "timestamp") else repr(each)) for each in row
    )
