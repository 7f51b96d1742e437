"""Notes, put and dropped by chance; and what their documents must be, folded by plain SQL."""

from __future__ import annotations

import json
import random
from typing import Any

from sqlalchemy import text

from actionbus import Bus
from tests.projections.conftest import World


def scribble(bus: Bus, chance: random.Random, count: int) -> int:
    """Puts, changes and drops; the last position."""
    position = 0
    for _ in range(count):
        note = f"n{chance.randrange(60)}"
        name, given = (
            ("drop_note", {"note": note})
            if chance.random() < 0.3
            else ("put_note", {"note": note, "text": str(chance.random()), "number": chance.randrange(9)})
        )
        position = bus.execute(name, given).position
    return position


NOTES_IN_SQL = """
WITH changed AS (
    SELECT position, action, arguments->>'note' AS note, arguments FROM journal
    WHERE kind = 'outcome' AND status = 'succeeded' AND action IN ('put_note', 'drop_note')
), since AS (
    SELECT note, coalesce(max(position) FILTER (WHERE action = 'drop_note'), 0) AS dropped FROM changed GROUP BY note
), put AS (
    SELECT note, arguments, row_number() OVER (PARTITION BY note ORDER BY position DESC) AS age,
        count(*) OVER (PARTITION BY note) AS times
    FROM changed JOIN since USING (note) WHERE action = 'put_note' AND position > dropped
)
SELECT note, arguments->>'text' AS text, CAST(arguments->>'number' AS integer) AS number, times - 1 AS changes,
    arguments->>'shelves' AS shelves FROM put WHERE age = 1"""


def in_sql(world: World) -> dict[str, Any]:
    """What the documents must be, by either database: nothing of ours has read the journal for it."""
    with world.bus.engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(text(NOTES_IN_SQL))]
    return {row.pop("note"): row | {"shelves": json.loads(row["shelves"])} for row in rows}
