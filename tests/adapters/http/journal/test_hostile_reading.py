"""Whatever a reader asks is answered, or refused in a sentence with 400; nothing that was mistyped shows more."""

from __future__ import annotations

from tests.adapters.http.journal.reading import Web

LONG = "9" * 5_000
QUERIES = [
    "cursor=",
    "cursor=x",
    "cursor=o",
    "cursor=o-1",
    "cursor=o1&cursor=o2",
    f"cursor=o{LONG}",
    "cursor=o%D9%A1",
    "cursor=o1%0A",
    "cursor=n1%00",
    "cursor=o1.5",
    "cursor=%FF",
    "limit=0",
    "limit=-1",
    "limit=201",
    "limit=x",
    f"limit={LONG}",
    "limit=1e2",
    "status=done",
    "status=%00",
    "kind=x",
    "kind=",
    "exclude_kind=x",
    "since=x",
    "since=",
    "since=2026-13-01",
    f"since={LONG}",
    "since=0001-01-01T00:00:00%2B14:00",
    "until=9999-12-31T23:59:59-14:00",
    "since=2026-01-01&since=2026-01-02",
    "cause=x",
    "cause=1",
    "cause=",
    "touching=",
    "touching=:1",
    "touching=t:",
    "touching=a&touching=b",
    "actor=%00",
    "actor=a%00b",
    f"action={'a' * 1_001}",
    "&".join(f"actor={n}" for n in range(51)),
    "&".join(f"exclude_actor={n}" for n in range(51)),
    "order=asc",
    "q=",
    "q=%20",
    "q=%00",
    "q=" + "a" * 201,
    "q=" + "a+" * 11,
    "q=a&q=b",
    "Actor=bob",
    "actor[]=bob",
    "q",
    "exclude_since=2026-01-01",
    "correlation_id=x",
    "%00=1",
    "a" * 5_000 + "=1",
]
ANSWERED = [
    "",
    "cursor=o0",
    "cursor=n0",
    "cursor=o999999999999999999",
    "cursor=n999999999999999999",
    "limit=200",
    "limit=01",
    "actor=",
    "actor=%27%3B DROP TABLE journal",
    "actor=%25",
    "touching=nowhere",
    "touching=nowhere:1",
    "touching=accounts:x",
    "touching=accounts:1,2",
    f"touching=accounts:{LONG[:900]}",
    "touching=accounts:%27",
    "touching=entries:1:2",
    "since=0001-01-01",
    "until=0001-01-01",
    "since=9999-12-31T23:59:59",
    "until=9999-12-31",
    "since=2999-01-01&until=2001-01-01",
    "cause=00000000000000000000000000000000",
    "release=%F0%9F%98%80",
    "&".join(f"actor={n}" for n in range(50)),
    "action=%2A",
    "action=%ED%A0%80",
    "status=",
    "exclude_status=",
    "since=2026-01-01T00:00:00+02:00",
]


def test_what_makes_no_sense_is_refused(told: Web) -> None:
    for query in QUERIES:
        problem = told.get(f"/journal?{query}", expected=400)
        assert len(problem["detail"]) < 1_000, query
        assert problem["errors"], query


def test_what_makes_sense_is_answered(told: Web) -> None:
    for query in ANSWERED:
        page = told.get(f"/journal?{query}")
        told_of = {"records", "older", "newer", "has_newer", "looked_at", "settled", "total", "begins"}
        assert set(page) == told_of, query


def test_a_caller_without_a_name_is_not_let_in(told: Web) -> None:
    client = told.app.test_client()
    for path in ("/journal", "/journal/1"):
        assert client.get(path).status_code == 401
        assert client.post(path, headers={"X-Actor": "officer"}).status_code == 405
