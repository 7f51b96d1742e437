"""Tables of any name are recorded and told, whoever names them: a dot may part a schema, or be one of the name."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.errors import HistoryError
from actionbus.core.history.install import install
from actionbus.core.history.wanted import by_name
from actionbus.core.storage.names import quoted
from tests.core.history.capturing import Captured
from tests.shop.app import make_application


def test_names_with_dots_and_quotes_are_told_from_schemas(captured: Captured) -> None:
    """By whoever names one: installing, answers, bisect, status, which must find them whole."""
    places = {"public": ("a.b", 'quo"te', "dup"), "a": ("c", "dup"), "Odd.Schema": ("It.ems",)}
    captured.run('CREATE SCHEMA a; CREATE SCHEMA "Odd.Schema"')
    names = [f"{schema}.{name}" for schema, own in places.items() for name in own]
    for schema, own in places.items():
        for name in own:
            table = f"{quoted(schema)}.{quoted(name)}"
            captured.run(f"CREATE TABLE {table} (id int PRIMARY KEY, v text)")
    with captured.bus.engine.begin() as connection:
        wanted = [by_name(connection, each) for each in names]
        assert by_name(connection, "a.b").schema is None
        assert sorted(install(captured.bus.backend, connection, wanted)) == sorted(names)
    for schema, own in places.items():
        for name in own:
            captured.run(f"INSERT INTO {quoted(schema)}.{quoted(name)} VALUES (1, '{schema}')")
    history = captured.bus.history
    assert [each.problems for each in history.status() if each.table_name in names] == [()] * len(names)
    for name in names:
        answer = history.state(name)
        assert answer.tables == {name: [{"id": 1, "v": name[: name.index(".")] if "Odd" not in name else "Odd.Schema"}]}
        assert answer.basis.tables[0].problems == ()
    assert history.bisect('SELECT count(*) = 1 FROM "quo""te"').source is not None
    with pytest.raises(HistoryError, match=r"public\.dup, a\.dup|a\.dup, public\.dup"):
        history.bisect("SELECT count(*) = 1 FROM dup")
    with pytest.raises(HistoryError, match="say which"):
        history.state("dup")


def test_on_sqlite_a_dot_is_one_of_the_name(sqlite_url: URL) -> None:
    with Bus(make_application(), sqlite_url) as bus:
        bus.journal.create()
        names = ["a.b", "main.c", 'quo"te']
        with bus.engine.begin() as connection:
            for name in names:
                connection.exec_driver_sql(f"CREATE TABLE {quoted(name)} (id INTEGER PRIMARY KEY, v TEXT)")
            assert install(bus.backend, connection, [by_name(connection, each) for each in names]) == names
            for name in names:
                connection.exec_driver_sql(f"INSERT INTO {quoted(name)} VALUES (1, 'x')")
        for name in names:
            answer = bus.history.state(name)
            assert answer.tables == {name: [{"id": 1, "v": "x"}]}
            assert answer.basis.tables[0].problems == ()
        with pytest.raises(HistoryError, match="no table 'b' was ever recorded"):
            bus.history.state("b")
        bus.execute("draw")  # gives them a position
        for name in names:
            assert bus.history.bisect(f"SELECT count(*) = 1 FROM {quoted(name)}").source is not None
