"""Files that are no exports of ours: a sentence that names the line, nothing of them stays, and none of them is run as SQL."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import ActionBusError, Bus
from actionbus.core.storage.archives import Archive
from actionbus.core.storage.privacy_ddl import DECLARED
from actionbus.replay.archives.lines import kind_of
from actionbus.replay.archives.transfer import export, import_into
from actionbus.replay.errors import ReplayError
from tests.conftest import prepared
from tests.shop.app import make_application

DEPTH = 100_000
EVIL = "folder) SELECT folder FROM actionbus_archives WHERE 1 = 0; DROP TABLE accounts; --"
EVIL_TABLE = f"{DECLARED} (keep) SELECT keep FROM {DECLARED} WHERE 1 = 0; DROP TABLE accounts; --"


@pytest.fixture
def lines(url: URL, tmp_path: Path) -> list[Any]:
    """Of an export: what it says of itself, records, a declaration, shapes, images."""
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        for number in (1, 2):
            bus.execute("open_account", {"id": number, "name": f"account {number}"})
        export(bus.journal, tmp_path / "whole.gz", history=bus.history)
    return [json.loads(line) for line in gzip.decompress((tmp_path / "whole.gz").read_bytes()).splitlines()]


def _files(lines: list[Any], is_sqlite: bool) -> Iterator[tuple[str, list[Any]]]:
    """Wrong in one way each."""
    head, *rest = lines
    at = {kind: number for number, kind in reversed(list(enumerate(map(kind_of, rest), 1)))}
    record, shape, image = (lines[at[kind]] for kind in ("record", "shape", "image"))
    for nothing in (
        5,
        None,
        "position",
        [],
        [1],
        [1, "x", "i"],
        {},
        {"position": -5},
        {"position": True},
        {"shape": "x"},
    ):
        yield f"a line {nothing}", [head, nothing, *rest]
    for name in ("action_id", "kind", "recorded_at", "format", "images_upto"):
        yield f"no {name}", [head, {key: value for key, value in record.items() if key != name}, *rest[1:]]
        for wrong in ("zz", 2**70, [], {"a": 1}):
            yield f"{name}: {wrong}", [head, record | {name: wrong}, *rest[1:]]
    yield "twice", [head, record, *rest]
    yield "far", [head, record | {"position": 2**70}, *rest[1:]]
    for name in ("shape", "table_name", "columns", "types", "key"):
        yield f"no {name}", [*lines[: at["shape"]], {key: value for key, value in shape.items() if key != name}]
    yield "another column", [*lines[: at["shape"]], shape | {"folder) SELECT 1; DROP TABLE accounts; --": 1}]
    yield "a short image", [*lines[: at["image"]], image[:4]]
    yield "a long image", [*lines[: at["image"]], [*image, 1, 2]] if is_sqlite else [head, 5]
    yield "another shape", [*lines[: at["image"]], [image[0], 999, *image[2:]]] if is_sqlite else [head, 5]
    for wrong in (5, [5], [{}], [{"moment": 5}], [dict.fromkeys(Archive._fields)], ["x"]):
        yield f"gone: {wrong}", [head | {"gone": wrong}, *rest]
    times = {"moment": "2026-01-01", "made_at": "2026-01-01", "ended": 1, "action_id": "0" * 32, "shapes": []}
    yield "gone is SQL", [head | {"gone": [{EVIL: 1, "folder": "x", "archive": 1, **times}]}, *rest]
    told = {"subject": "x", "tag": "00", "xid": 1, "began_at": "2026-01-01", "keep": "x"}
    yield "a table is SQL", [head, {"privacy": EVIL_TABLE, **told}, *rest]
    for wrong in ("x", 5, DECLARED):
        yield f"privacy {wrong}", [head, {"privacy": wrong}, *rest]
    for name in ("format", "journal", "dialect"):
        yield f"no {name}", [{key: value for key, value in head.items() if key != name}, *rest]


def test_whatever_is_in_a_file_comes_to_a_sentence_and_nothing_stays(
    lines: list[Any], elsewhere: Bus, tmp_path: Path
) -> None:
    path, is_sqlite = tmp_path / "wrong.gz", elsewhere.journal.dialect == "sqlite"
    with elsewhere.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE accounts (id INTEGER PRIMARY KEY)")
    before = _counts(elsewhere)
    for what, told in _files(lines, is_sqlite):
        path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in told).encode()))
        with pytest.raises(ActionBusError):
            pytest.fail(f"{what}: {import_into(elsewhere, path)} records were imported")
        assert _counts(elsewhere) == before, what
    deep = json.dumps(lines[0]) + "\n" + "[" * DEPTH
    path.write_bytes(gzip.compress(deep.encode()))
    with pytest.raises(ReplayError, match="at line 2"):
        import_into(elsewhere, path)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    assert import_into(elsewhere, path) == sum(kind_of(line) == "record" for line in lines[1:])


def _counts(bus: Bus) -> list[int]:
    tables = ("accounts", "journal", "actionbus_images", "actionbus_shapes", "actionbus_archives", DECLARED)
    with bus.engine.connect() as connection:
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {each}").scalar_one() for each in tables]
