"""`GET /journal`: every record is on exactly one page, whichever way one turns them; filters choose what they say."""

from __future__ import annotations

from typing import Any

import pytest

from actionbus.core.browsing import pages
from actionbus.core.browsing import whole as whole_action
from tests.adapters.http.journal.reading import Web

EVERY: dict[str, Any] = {"kind": ["submitted", "outcome", "bypass"]}


def positions(page: Any) -> list[int]:
    return [each["position"] for each in page["records"]]


def turned(web: Web, direction: str, start: Any, **query: Any) -> list[Any]:
    """All pages from one on, in one direction."""
    found = [start]
    while found[-1]["has_newer"] if direction == "newer" else found[-1]["older"]:
        found.append(web.get("/journal", cursor=found[-1][direction], **query))
    return found


QUERIES: list[dict[str, Any]] = [
    EVERY,
    {"actor": "ann"},
    {"touching": "accounts:1"},
    {"touching": "accounts", "actor": "ann"},
    {"touching": "accounts", "actor": ["bob", "cid"], "action": "deposit"},
    {"touching": "accounts", "status": "succeeded"},
    {"exclude_status": "succeeded", **EVERY},
]


@pytest.mark.parametrize(("looked_at", "at_once"), [(3, 500), (20_000, 500), (3, 1), (20_000, 1)])
def test_pages_hold_every_record_once_in_both_directions(
    told: Web, looked_at: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where so little is looked at for a page, or at once, that some are short or empty."""
    everything = [record.position for record in told.bus.journal.read()][::-1]
    expected = [positions(told.get("/journal", limit=200, **query)) for query in QUERIES]
    for name, most in {"LOOKED_AT": looked_at, "TOUCHED": looked_at, "_AT_ONCE": at_once}.items():
        monkeypatch.setattr(pages, name, most)
    for query, whole in zip(QUERIES, expected, strict=True):
        assert whole
        older = turned(told, "older", told.get("/journal", limit=2, **query), limit=2, **query)
        seen = [position for page in older for position in positions(page)]
        assert seen == sorted(set(seen), reverse=True)
        assert seen == whole
        assert query is not EVERY or seen == everything
        back = turned(told, "newer", older[-1], limit=2, **query)
        again = [position for page in reversed(back) for position in positions(page)]
        assert set(again) == set(seen)
        assert again == sorted(set(again), reverse=True)


def test_what_is_new_is_beyond_the_newest_page(told: Web) -> None:
    newest = told.get("/journal", limit=2)
    assert newest["has_newer"] is False
    assert told.get("/journal", cursor=newest["newer"])["records"] == []
    told.bus.execute("deposit", {"id": 1}, actor="dan")
    (new,) = told.get("/journal", cursor=newest["newer"])["records"]
    assert (new["actor"], new["status"]) == ("dan", "succeeded")


CHOSEN: list[tuple[dict[str, Any], set[tuple[str, str | None]]]] = [
    ({"actor": "bob"}, {("deposit", "bob")}),
    ({"actor": ["bob", "cid"]}, {("deposit", "bob"), ("deposit", "cid")}),
    ({"action": ["transfer", "withdraw"]}, {("transfer", "ann"), ("withdraw", "ann")}),
    ({"status": "rejected"}, {("deposit", "cid")}),
    ({"correlation": "evening"}, {("deposit", "cid")}),
    ({"exclude_actor": ["ann", ""]}, {("deposit", "bob"), ("deposit", "cid")}),
    (
        {"exclude_action": "deposit", "kind": "outcome"},
        {("open_account", "ann"), ("transfer", "ann"), ("withdraw", "ann")},
    ),
    ({"touching": "accounts:2"}, {("open_account", "ann"), ("deposit", "ann")}),
    ({"touching": "entries", "actor": "ann"}, {("withdraw", "ann"), ("deposit", "ann")}),
    ({"release": "shop 1", "action": "transfer"}, {("transfer", "ann")}),
    ({"exclude_release": ["shop 1", ""]}, set()),
    ({"release": "", "kind": "outcome"}, set()),
    ({"until": "2001-01-01"}, set()),
    ({"since": "2999-01-01T00:00:00Z"}, set()),
    ({"since": "2001-01-01", "status": "rejected"}, {("deposit", "cid")}),
    ({"actor": "nobody's"}, set()),
]


@pytest.mark.parametrize(("query", "expected"), CHOSEN, ids=[str(each[0]) for each in CHOSEN])
def test_filters(told: Web, query: dict[str, Any], expected: set[tuple[str, str | None]]) -> None:
    page = told.get("/journal", **query)
    assert {(each["action"], each.get("actor")) for each in page["records"]} == expected
    assert page["total"] == {"count": len(page["records"]), "is": "exact"}


def test_words(told: Web) -> None:
    """In arguments, results and errors; what is a wildcard or an escape elsewhere is a letter here."""
    told.bus.execute("deposit", {"id": 1, "note": '100% caf\u00e9 \\ "x"'}, actor="dan")
    for words, count in (
        ("note", 8),
        ("NOTE", 8),
        ("ote", 8),
        ("account such", 1),
        ("100%", 1),
        ("%", 1),
        ("0_%", 0),
        ("caf\u00e9", 1),
        ("nowhere", 0),
        ('"x"', 1),
        ("\\", 1),
        ("note nowhere", 0),
    ):
        found = told.get("/journal", action="deposit", q=words)
        assert (len(found["records"]), found["searched"]) == (count, "window"), words
    for who in ("auditor", "clerk"):
        told.get("/journal", who, expected=403, q="note")


def test_the_window_of_a_search_is_said(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SEARCHED", 4)
    page = told.get("/journal", q="note", actor="bob", kind=["submitted", "outcome"])
    assert page["looked_at"]["upto"] - page["looked_at"]["beyond"] == 4
    found = [each["position"] for turned in turned_pages(told, page) for each in turned["records"]]
    assert len(found) == 10


def turned_pages(web: Web, page: Any) -> list[Any]:
    return turned(web, "older", page, q="note", actor="bob", kind=["submitted", "outcome"])


def test_caused(told: Web) -> None:
    (transfer,) = told.get("/journal", action="transfer")["records"]
    found = told.get("/journal", cause=transfer["action_id"])["records"]
    assert [each["action"] for each in found] == ["deposit", "withdraw"]


def test_long_values_are_told_by_their_length_in_a_list_and_whole_elsewhere(told: Web) -> None:
    done = told.bus.execute("deposit", {"id": 1, "note": "x" * 5_000}, actor="bob")
    newest = told.get("/journal", limit=1)["records"][0]
    assert newest["arguments"]["$long"] > 5_000
    whole = told.get(f"/journal/{done.action_id}")
    assert whole["outcome"]["arguments"]["note"] == "x" * 5_000


def test_one_action_whole(told: Web) -> None:
    (transfer,) = told.get("/journal", action="transfer")["records"]
    whole = told.get(f"/journal/{transfer['action_id']}")
    assert (whole["state"], whole["outcome"]["status"]) == ("done", "succeeded")
    assert whole["submitted"]["arguments"] == {"source": 1, "target": 2, "amount": 3}
    assert whole["outcome"]["release"] == "shop 1"
    assert whole["outcome"]["duration_us"] >= 0
    assert [(each["action"], each["status"]) for each in whole["caused"]] == [
        ("withdraw", "succeeded"),
        ("deposit", "succeeded"),
    ]
    nested = told.get(f"/journal/{whole['caused'][0]['position']}")
    changed = {each["table"].rpartition(".")[2]: each for each in nested["changes"]}
    assert (changed["accounts"]["before"]["balance"], changed["accounts"]["after"]["balance"]) == (50, 47)
    assert changed["accounts"]["columns"] == ["balance"]
    assert changed["entries"]["operation"] == "insert"


def test_of_more_changes_than_are_read_none_is_told(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    (newest,) = told.get("/journal", action="deposit", actor="bob", limit=1)["records"]
    assert told.get(f"/journal/{newest['position']}")["without_history"] is None
    monkeypatch.setattr(whole_action, "MOST_READ", 1)
    found = told.get(f"/journal/{newest['position']}")
    assert (found["changes"], "more than 1 changes" in found["without_history"]) == ([], True)


def test_more_changes_than_are_shown_are_said(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from actionbus.adapters.http import journal_api

    monkeypatch.setattr(journal_api, "MOST_CHANGES", 1)
    (newest,) = told.get("/journal", action="deposit", actor="bob", limit=1)["records"]
    whole = told.get(f"/journal/{newest['position']}")
    assert (len(whole["changes"]), whole["has_more_changes"]) == (1, True)
