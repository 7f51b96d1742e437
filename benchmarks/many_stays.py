"""A year of an inn's history, made by SQL: a million actions in a minute or two. Used by `inspecting` and `growing`.

Two records and an image for each action, but for the one in nineteen that was no success. A tenth of the actions put a
row there, and none of these fails; the others change one of those that are there. Three of a request share a
correlation, two of which the first has caused. One row, the first, is changed by every 1000th action. The year begins
now, when the table is recorded.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from benchmarks.setting import application

TABLE: Final = "stays"
_PEOPLE, _KINDS, _RELEASES = 500, 20, 50
_POSTGRESQL: Final = """
CREATE TABLE stays (id integer PRIMARY KEY, guest text, price integer);
CREATE TEMP TABLE done AS
    SELECT n, ok, sum(ok::int) OVER (ORDER BY n) AS image, id, at,
        lag(n) OVER (PARTITION BY ok, id ORDER BY n) AS before
    FROM (SELECT n, n % 17 <> 5 OR n % 10 = 1 AS ok, now() + interval '365 days' * (n / {actions}.0) AS at,
            CASE WHEN n % 10 = 1 THEN n / 10 + 1 WHEN n % 1000 = 0 THEN 1
                ELSE 1 + (hashint4(n) & 2147483647) % (n / 10 + 1) END AS id
        FROM generate_series(1, {actions}) n) s;
INSERT INTO actionbus_images (shape, operation, key, before, after, action, xid)
    SELECT 1, CASE WHEN before IS NULL THEN 'i' ELSE 'u' END, '(' || id || ')',
        CASE WHEN before IS NOT NULL THEN '(' || id || ',"guest ' || id || '",' || before || ')' END,
        '(' || id || ',"guest ' || id || '",' || n || ')', lpad(to_hex(n), 32, '0'), 1001 + 2 * n
    FROM done WHERE ok ORDER BY n;
INSERT INTO journal (action_id, kind, status, action, handler_version, actor, correlation_id, cause_id, recorded_at,
        started_at, release, context, arguments, result, error, xid, seen, duration_us, images_after, images_upto)
    SELECT lpad(to_hex(n), 32, '0')::uuid, kind,
        CASE WHEN kind = 'outcome' THEN CASE WHEN ok THEN 'succeeded'
            ELSE (ARRAY['rejected', 'denied', 'failed', 'rejected'])[1 + n / 17 % 4] END END,
        'action_' || n % {kinds}, 1, CASE WHEN n % 97 > 0 THEN 'person ' || (hashint4(n) & 2147483647) % {people} END,
        'request-' || n / 3, CASE WHEN n % 3 > 0 THEN lpad(to_hex(n / 3 * 3), 32, '0')::uuid END,
        at, at, 'r' || n * {releases}::bigint / {actions},
        CASE WHEN kind = 'submitted' THEN json_build_object('via', 'http', 'path', '/stays/' || id) END,
        json_build_object('id', id, 'guest', 'guest ' || id, 'price', n, 'note', 'as it was asked for at the desk'),
        CASE WHEN kind = 'outcome' AND ok THEN json_build_object('id', id, 'price', n) END,
        CASE WHEN kind = 'outcome' AND NOT ok THEN json_build_object('type', 'Refused', 'message', 'no room') END,
        1000 + 2 * n + (kind = 'outcome')::int,
        (1000 + 2 * n + (kind = 'outcome')::int) || ':' || (1001 + 2 * n + (kind = 'outcome')::int) || ':',
        CASE WHEN kind = 'outcome' THEN 900 + n % 5000 END, NULL, image - (kind = 'submitted' AND ok)::int
    FROM done, (VALUES ('submitted', 1), ('outcome', 2)) k(kind, number) ORDER BY n, number;
INSERT INTO stays SELECT DISTINCT ON (id) id, 'guest ' || id, n FROM done WHERE ok ORDER BY id, n DESC
"""
_SQLITE: Final = """
CREATE TABLE stays (id integer PRIMARY KEY, guest text, price integer);
CREATE TEMP TABLE done AS
    WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {actions}),
    k AS (SELECT n, n % 17 <> 5 OR n % 10 = 1 AS ok,
            strftime('%Y-%m-%d %H:%M:%f', 'now', (n * 31536000.0 / {actions}) || ' seconds') || '000' AS at,
        CASE WHEN n % 10 = 1 THEN n / 10 + 1 WHEN n % 1000 = 0 THEN 1
            ELSE 1 + (n * 2654435761 & 2147483647) % (n / 10 + 1) END AS id FROM s)
    SELECT n, ok, sum(ok) OVER (ORDER BY n) AS image, id, at, lag(n) OVER (PARTITION BY ok, id ORDER BY n) AS before
    FROM k ORDER BY n;
INSERT INTO actionbus_images (shape, operation, key, at, o1, o2, o3, n1, n2, n3)
    SELECT 1, CASE WHEN before IS NULL THEN 'i' ELSE 'u' END, id, julianday(at),
        CASE WHEN before IS NOT NULL THEN id END, CASE WHEN before IS NOT NULL THEN 'guest ' || id END, before,
        id, 'guest ' || id, n
    FROM done WHERE ok ORDER BY n;
INSERT INTO journal (action_id, kind, status, action, handler_version, actor, correlation_id, cause_id, recorded_at,
        started_at, release, context, arguments, result, error, xid, seen, duration_us, images_after, images_upto)
    SELECT printf('%032x', n), kind,
        CASE WHEN kind = 'outcome' THEN CASE WHEN ok THEN 'succeeded' WHEN n / 17 % 4 IN (0, 3) THEN 'rejected'
            WHEN n / 17 % 4 = 1 THEN 'denied' ELSE 'failed' END END,
        'action_' || n % {kinds}, 1,
        CASE WHEN n % 97 > 0 THEN 'person ' || (n * 2654435761 & 2147483647) % {people} END,
        'request-' || n / 3, CASE WHEN n % 3 > 0 THEN printf('%032x', n / 3 * 3) END,
        at, at, 'r' || n * {releases} / {actions},
        CASE WHEN kind = 'submitted' THEN json_object('via', 'http', 'path', '/stays/' || id) END,
        json_object('id', id, 'guest', 'guest ' || id, 'price', n, 'note', 'as it was asked for at the desk'),
        CASE WHEN kind = 'outcome' AND ok THEN json_object('id', id, 'price', n) END,
        CASE WHEN kind = 'outcome' AND NOT ok THEN json_object('type', 'Refused', 'message', 'no room') END,
        0, CAST(2 * n - (kind = 'submitted') AS TEXT), CASE WHEN kind = 'outcome' THEN 900 + n % 5000 END,
        CASE WHEN kind = 'outcome' THEN image - ok END, CASE WHEN kind = 'outcome' THEN image END
    FROM done, (SELECT 'submitted' AS kind, 1 AS number UNION ALL SELECT 'outcome', 2) k ORDER BY n, number;
INSERT INTO stays SELECT id, 'guest ' || id, max(n) FROM done WHERE ok GROUP BY id
"""
_TRIGGERS: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'stays'"


def fill(url: URL, actions: int) -> None:
    """Make it in an empty database."""
    if url.get_backend_name() == "sqlite":
        _fill_sqlite(url, actions)
        return
    with Bus(application, url) as bus:
        bus.journal.create()
        create, *rest = _POSTGRESQL.format(actions=actions, kinds=_KINDS, people=_PEOPLE, releases=_RELEASES).split(";")
        with bus.engine.begin() as connection:
            connection.exec_driver_sql(create)
            install(bus.backend, connection, [TableWanted(TABLE)])
            *before, last = rest
            for statement in before:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            connection.exec_driver_sql("ALTER TABLE stays DISABLE TRIGGER USER")  # its images are there already
            connection.exec_driver_sql(last)
            connection.exec_driver_sql("ALTER TABLE stays ENABLE TRIGGER USER")
        with bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")  # as autovacuum would


def _fill_sqlite(url: URL, actions: int) -> None:
    with Bus(application, url) as bus:
        bus.journal.create()
        create, *before, last = _SQLITE.format(actions=actions, kinds=_KINDS, people=_PEOPLE, releases=_RELEASES).split(
            ";"
        )
        with bus.engine.begin() as connection:
            connection.exec_driver_sql(create)
            install(bus.backend, connection, [TableWanted(TABLE)])
            for statement in before:
                connection.exec_driver_sql(statement)
            triggers = connection.exec_driver_sql(_TRIGGERS).all()
            for name, _ in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql(last)
            for _, sql in triggers:
                connection.exec_driver_sql(sql)
        with bus.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
