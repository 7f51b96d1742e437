"""`/history…`: what rows were, to whom they may be shown; the answers are those of the row history."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus
from actionbus.adapters.http import history_api
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.adapters.http.journal.reading import Web

MASKED = {"$masked": True}


def table_of(web: Web, bare: str) -> str:
    """Its name in the history, with its schema on PostgreSQL."""
    names = [each["table"] for each in web.get("/history/tables")["tables"]]
    return next(each for each in names if each.rpartition(".")[2] == bare)


def test_tables_and_status(told: Web) -> None:
    tables = told.get("/history/tables", "auditor")
    accounts = next(each for each in tables["tables"] if each["table"].endswith("accounts"))
    assert (accounts["key"], accounts["columns"]) == (["id"], ["id", "name", "balance"])
    assert (accounts["gaps"], accounts["problems"], accounts["withheld"]) == ([], [], [])
    assert accounts["since"]
    status = told.get("/history/status", "auditor")
    assert (status["is_whole"], status["problems"], status["position"]) == (True, {}, tables["position"])


def test_a_table_that_is_recorded_no_more_is_said(told: Web) -> None:
    with told.bus.engine.begin() as connection:
        name = "actionbus_insert_accounts" if told.bus.journal.dialect == "sqlite" else None
        if name is None:
            connection.exec_driver_sql("ALTER TABLE accounts DISABLE TRIGGER ALL")
        else:
            triggers = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'accounts'"
            ).scalars()
            for each in triggers.all():
                connection.exec_driver_sql(f'DROP TRIGGER "{each}"')
    status = told.get("/history/status")
    assert not status["is_whole"]
    assert any(each.endswith("accounts") for each in status["problems"])


def test_a_row(told: Web) -> None:
    row = told.get(f"/history/rows/{table_of(told, 'accounts')}/1", limit=2)
    assert [each["after"]["balance"] for each in row["versions"]] == [47, 50]
    assert (row["versions"][0]["action"], row["has_more"]) == ("withdraw", True)
    assert {each["column"]: (each["value"], each["action"]) for each in row["blame"]} == {
        "id": (1, "open_account"),
        "name": ("account 1", "open_account"),
        "balance": (47, "withdraw"),
    }
    first = told.get("/history/rows/accounts/1", at=str(row["basis"]["tables"] and row["versions"][1]["position"]))
    assert first["versions"][0]["after"]["balance"] == 50


def test_a_state_page_by_page_stays_at_its_position(told: Web) -> None:
    whole = told.get("/history/state/entries")
    ids = [each["id"] for each in whole["rows"]]
    page = told.get("/history/state/entries", limit=2)
    seen = page["rows"]
    while page["more"]:
        told.bus.execute("deposit", {"id": 1}, actor="dan")  # is not of the state that was begun with
        page = told.get("/history/state/entries", limit=2, cursor=page["more"])
        assert page["basis"]["position"] == whole["basis"]["position"]
        seen += page["rows"]
    assert [each["id"] for each in seen] == ids
    assert not page["has_more"]
    more = told.get("/history/state/entries", limit=2)["more"]
    told.get("/history/state/accounts", limit=2, cursor=more, expected=400)
    seal, _, place = more.partition(".")
    for forged in (place, f".{place}", f"{seal}.{place[:-4]}", f"{seal[:-1]}.{place}", f"{seal}.{place}\u00e9"):
        assert "begin with the first page" in told.get("/history/state/entries", cursor=forged, expected=400)["detail"]
    assert told.get("/history/state/accounts", at="start", expected=404)["detail"]


def test_a_difference(told: Web) -> None:
    end = told.bus.journal.settled()
    told.bus.execute("deposit", {"id": 2, "amount": 7}, actor="dan")
    found = told.get("/history/diff", table="accounts", **{"from": end})
    (row,) = found["rows"]
    assert (row["before"]["balance"], row["after"]["balance"]) == (3, 10)
    assert len(told.get("/history/diff", **{"from": end})["rows"]) == 2
    assert told.get("/history/diff", limit=1, **{"from": end})["has_more"]


def test_a_difference_backwards_is_the_same_rows_the_other_way_round(told: Web) -> None:
    end = told.bus.journal.settled()
    points = (str(end - 4), str(end))
    there = told.get("/history/diff", **{"from": points[0], "to": points[1]})["rows"]
    back = told.get("/history/diff", **{"from": points[1], "to": points[0]})["rows"]
    assert len(there) > 1
    assert back == [each | {"before": each["after"], "after": each["before"]} for each in there]


def test_a_table_without_a_key_tells_its_first_rows(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with told.bus.engine.begin() as connection:
        connection.execute(text("CREATE TABLE visits (who TEXT, times INTEGER)"))
        install(told.bus.backend, connection, [TableWanted("visits")])
    with told.bus.engine.begin() as connection:
        connection.execute(text("INSERT INTO visits VALUES ('ann', 1), ('ann', 1), ('bob', 2)"))
    told.bus.execute("deposit", {"id": 2, "amount": 7}, actor="dan")
    whole = told.get("/history/state/visits")
    assert sorted(each["who"] for each in whole["rows"]) == ["ann", "ann", "bob"]
    assert (whole["is_ordered"], whole["has_more"]) == (False, False)
    first = told.get("/history/state/visits", limit=2)
    assert (len(first["rows"]), first["has_more"], first["more"]) == (2, True, None)
    assert told.get("/history/state/accounts", limit=1)["is_ordered"]
    monkeypatch.setattr(history_api, "MOST_READ", 2)
    assert "ask for its whole state" in told.get("/history/state/visits", expected=404)["detail"]


def paths(bus: Bus) -> list[str]:
    return [
        "/history/state/accounts",
        "/history/state/entries?limit=1",
        f"/history/diff?from={bus.journal.settled() - 4}",
    ]


def test_masks(told: Web) -> None:
    for path in paths(told.bus):
        answer = told.get(path, "auditor")
        assert answer["rows"]
        assert {json.dumps(each) for row in answer["rows"] for each in values(row)} == {json.dumps(MASKED)}
        assert "account 1" not in json.dumps(answer)
        assert answer.get("more") is None, "a cursor tells a key"
    for path in ("/history/rows/accounts/1", "/history/rows/accounts/none"):
        told.get(path, "auditor", expected=403)
    more = told.get("/history/state/entries", limit=1)["more"]
    told.get("/history/state/entries", "auditor", cursor=more, expected=403)


def values(row: dict[str, Any]) -> list[Any]:
    if "before" not in row:
        return list(row.values())
    return [each for part in ("key", "before", "after") for each in (row[part] or {}).values()]


@pytest.mark.parametrize("actor", ["clerk", "ann"])
def test_who_has_no_permission_gets_nothing(told: Web, actor: str) -> None:
    for path in (*paths(told.bus), "/history/tables", "/history/status", "/history/rows/accounts/1"):
        told.get(path, actor, expected=403)


LONG = "9" * 900
HOSTILE = [
    ("tables?at=x", 400),
    ("tables?at=", 400),
    ("tables?at=-1", 400),
    (f"tables?at={LONG}", 400),
    ("tables?x=1", 400),
    ("tables?at=0001-01-01T00:00:00%2B23:59", 400),
    ("state/accounts?at=9999-12-31T23:59:59.999999-23:59", 400),
    ("diff?from=0001-01-01T00:00:00%2B00:01", 400),
    ("tables?at=9999-12-31T23:59:59.999999", 200),
    ("tables?at=0001-01-01", 200),
    ("tables?at=999999999999999999", 404),
    ("tables?at=00000000-0000-4000-8000-000000000000", 404),
    ("status?at=1", 400),
    ("state/nowhere", 404),
    ("state/accounts?limit=0", 400),
    ("state/accounts?limit=201", 400),
    ("state/%00", 404),
    ("state/accounts?cursor=x", 400),
    ("state/accounts?cursor=", 400),
    (f"state/accounts?cursor={LONG * 10}", 400),
    ("state/accounts?cursor=W10", 400),
    ("state/accounts?cursor=bnVsbA", 400),
    ("state/accounts?cursor=%00", 400),
    ("state/accounts?cursor=WzEsWzFdXQ", 400),
    ("state/accounts?cursor=Wy0xLFsiMSJdXQ", 400),
    ("state/accounts?cursor=WzEsWyIxIiwiMiJdXQ", 400),
    ("state/accounts?cursor=.WzEsWyIxIiwiMiJdXQ", 400),
    ("state/accounts?cursor=AAAA.W3RydWUsWyIxIl1d", 400),
    ("state/accounts?cursor=%C3%A9.W10", 400),
    ("rows/accounts/x", 404),
    ("rows/accounts/1,2", 404),
    (f"rows/accounts/{LONG}", 404),
    ("rows/nowhere/1", 404),
    ("rows/accounts/%00", 404),
    ("rows/accounts/1%27", 404),
    ("rows/accounts/99", 404),
    ("rows/accounts/1/2", 404),
    ("diff", 400),
    ("diff?from=", 400),
    ("diff?from=x", 400),
    ("diff?from=1&to=y", 400),
    ("diff?from=1&table=nowhere", 404),
    ("diff?from=1&from=2", 400),
    ("diff?from=end&to=start", 200),
    ("diff?from=999999999999", 404),
    ("nothing", 404),
]


def test_hostile_readers(told: Web) -> None:
    for path, expected in HOSTILE:
        response = told.app.test_client().get(f"/history/{path}", headers={"X-Actor": "officer"})
        assert response.status_code == expected, (path, response.text)
        assert expected == 200 or response.mimetype == "application/problem+json", path


def test_what_would_take_long_is_refused(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_api, "MOST_READ", 3)
    row = told.get("/history/rows/accounts/1", expected=404)
    assert "more than 3 times" in row["detail"]
    assert told.get("/history/rows/accounts/2")["versions"]
    end = told.bus.journal.settled()
    assert "more than 3 changes" in told.get("/history/diff", expected=404, **{"from": 1})["detail"]
    assert told.get("/history/diff", **{"from": end})["rows"] == []
