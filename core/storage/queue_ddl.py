"""The SQL that creates the tables of queued actions; used by `storage.ddl`. Times are seconds since 1970."""

from __future__ import annotations

from typing import Final

RUNS: Final = "actionbus_runs"
QUEUES: Final = "actionbus_queues"
UNIQUE: Final = "actionbus_unique"
TICKS: Final = "actionbus_ticks"
DEAD: Final = "actionbus_dead_letters"
TABLES: Final = (RUNS, QUEUES, UNIQUE, TICKS, DEAD)


def postgresql(prefix: str) -> list[str]:
    """The statements, where `prefix` qualifies names."""
    number = "number bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY"
    return _tables(prefix, "uuid", number, "", prefix)


def sqlite() -> list[str]:
    """The statements that make these tables on SQLite."""
    return _tables("main.", "CHAR(32)", "number INTEGER PRIMARY KEY", "main.", "")


def _tables(prefix: str, key: str, number: str, index: str, on: str) -> list[str]:
    return [
        # Nothing but these two keeps one action from two rows, and one key from two that run.
        f"""CREATE TABLE {prefix}{RUNS} (
    {number},
    action_id {key} NOT NULL UNIQUE,
    action VARCHAR(100) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    queued_at DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    publish_at DOUBLE PRECISION NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker VARCHAR(200),
    claimed_at DOUBLE PRECISION,
    problem TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    concurrency_key TEXT,
    ordered_at DOUBLE PRECISION NOT NULL,
    cancelled_by VARCHAR(36)
)""",
        f"CREATE UNIQUE INDEX {index}{RUNS}_one_per_key ON {on}{RUNS} (concurrency_key) "
        "WHERE worker IS NOT NULL AND concurrency_key IS NOT NULL",
        f"CREATE INDEX {index}{RUNS}_key ON {on}{RUNS} (concurrency_key, ordered_at, number) "
        "WHERE concurrency_key IS NOT NULL",
        f"CREATE INDEX {index}{RUNS}_waiting ON {on}{RUNS} (priority DESC, due_at, number) WHERE worker IS NULL",
        f"CREATE INDEX {index}{RUNS}_publish_at ON {on}{RUNS} (publish_at)",
        f"""CREATE TABLE {prefix}{QUEUES} (
    name VARCHAR(100) PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    next_at DOUBLE PRECISION NOT NULL DEFAULT 0
)""",
        f"""CREATE TABLE {prefix}{UNIQUE} (
    unique_key VARCHAR(200) PRIMARY KEY,
    action_id {key} NOT NULL,
    until DOUBLE PRECISION
)""",
        f"CREATE INDEX {index}{UNIQUE}_action ON {on}{UNIQUE} (action_id)",
        f"""CREATE TABLE {prefix}{TICKS} (
    action VARCHAR(100) NOT NULL,
    schedule VARCHAR(200) NOT NULL,
    ticked_at DOUBLE PRECISION NOT NULL,
    leased_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (action, schedule)
)""",
        f"""CREATE TABLE {prefix}{DEAD} (
    action_id {key} PRIMARY KEY,
    action VARCHAR(100) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    status VARCHAR(20) NOT NULL,
    attempts INTEGER NOT NULL,
    queued_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION NOT NULL,
    problem TEXT
)""",
    ]
