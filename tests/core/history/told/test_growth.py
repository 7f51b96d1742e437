"""What is asked of one row, one page or one action reads no more in a longer history: SQLite's own steps, counted."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url

from actionbus import History
from tests.core.history.capturing_sqlite import Recorded

SHORT, LONG = 1_000, 8_000
STEPS = 100
"""Steps of SQLite's machine between two calls of the counter."""
IMAGES = """
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {images})
INSERT INTO actionbus_images (shape, operation, key, at, n1, n2) SELECT 1, 'i', n, 2460000.5, n, 'item ' || n FROM s;
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {images})
INSERT INTO journal (action_id, kind, status, action, correlation_id, images_after, images_upto)
SELECT printf('%032x', n), 'outcome', 'succeeded', 'change', '', n - 1, n FROM s;
ANALYZE;
"""


def steps(path: Path, images: int) -> dict[str, int]:
    """How much each question takes in a history of so many images."""
    recorded = Recorded(make_url(f"sqlite:///{path / str(images)}"))
    recorded.made("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)", "items")
    recorded.client.executescript(IMAGES.format(images=images))
    recorded.client.close()
    recorded.bus.close()
    counted = [0]

    def count() -> None:
        counted[0] += 1

    engine = create_engine(f"sqlite:///{path / str(images)}")
    event.listen(engine, "connect", lambda dbapi, _: dbapi.set_progress_handler(count, STEPS))
    history, middle, found = History(engine), images // 2, {}
    for name, ask in {
        "looking at the journal": lambda: history.basis(),
        "first page": lambda: history.state("items", limit=20),
        "a page in the middle": lambda: history.state("items", middle + 50, after=middle, limit=20),
        "rows": lambda: history.rows("items", middle),
        "blame": lambda: history.blame("items", middle),
        "changes": lambda: history.changes(middle),
        "diff": lambda: history.diff(images - 5),
        "bisect of a row": lambda: history.bisect_row("items", middle, "name", f"item {middle}"),
    }.items():
        counted[0] = 0
        ask()
        found[name] = counted[0]
    engine.dispose()
    return found


def test_a_longer_history_takes_no_more_steps(tmp_path: Path) -> None:
    short, long = (steps(tmp_path, images) for images in (SHORT, LONG))
    assert {name: long[name] for name in long if long[name] > short[name] + LONG // STEPS} == {}
