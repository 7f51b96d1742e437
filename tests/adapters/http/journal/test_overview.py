"""Density, facets and causes: what they count is what is there, or they say how far they counted."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from actionbus.core.browsing import causes, density, facets
from actionbus.core.values.determinism import Ids
from tests.adapters.http.journal.reading import Web


@pytest.mark.parametrize("counted", [20_000, 3])
def test_density(told: Web, counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many records are there to be counted, positions stand for them; what failed is counted all the same."""
    monkeypatch.setattr(density, "COUNTED", counted)
    found = told.get("/journal/density", "auditor", buckets=7)
    records = list(told.bus.journal.read())
    assert found["is_exact"] is (counted > 3)
    assert len(found["buckets"]) == 7
    assert sum(each["records"] for each in found["buckets"]) == len(records)
    summed: Counter[str] = Counter()
    for each in found["buckets"]:
        summed.update(each["statuses"])
    there = Counter(record.status for record in records if record.status)
    assert summed == (there if found["is_exact"] else Counter(rejected=there["rejected"]))
    for one, other in zip(found["buckets"], found["buckets"][1:], strict=False):
        assert one["until"] == other["since"]


def test_density_of_a_range(told: Web) -> None:
    whole = told.get("/journal/density", buckets=1)["buckets"][0]
    later = told.get("/journal/density", buckets=2, since="2999-01-01", until="2999-01-02")
    assert [each["records"] for each in later["buckets"]] == [0, 0]
    around = told.get("/journal/density", buckets=1, since="2001-01-01", until="2999-01-01")["buckets"][0]
    assert around["records"] == whole["records"]
    assert told.get("/journal/density", since="2002-01-01", until="2001-01-01")["buckets"] == []


@pytest.mark.parametrize("counted", [20_000, 14, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"actor": "bob"},
        {"action": "deposit"},
        {"status": "rejected"},
        {"exclude_actor": "bob"},
        {"kind": "submitted"},
        {"actor": ["bob", "cid"], "exclude_status": "rejected"},
        {"correlation": "morning"},
        {"actor": "nobody"},
        {"touching": "*"},
        {"touching": "accounts"},
        {"touching": "accounts:1", "actor": "bob"},
        {"touching": "accounts:nobody's"},
        {"touching": "nothing"},
        {"q": "note"},
        {"q": "hay", "touching": "accounts"},
    ],
)
def test_density_of_what_is_wanted(
    told: Web, given: dict[str, Any], counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rare is counted by its index however long the journal is; else some stand for others, which is said."""
    monkeypatch.setattr(density, "COUNTED", counted)
    there = told.get("/journal", **given, limit=200)["records"]
    found = told.get("/journal/density", "reader", buckets=5, **given)
    records = sum(each["records"] for each in found["buckets"])
    assert records >= sum(sum(each["statuses"].values()) for each in found["buckets"])
    if counted == 20_000:
        assert found["is_exact"]
    if found["is_exact"]:
        assert records == len(there)
    else:
        assert found["estimated_from"] == max(1, counted // 3 // 5)
        assert records <= told.bus.journal.settled()
        newest = [each for each in there if each["position"] > found["counted_beyond"]]
        assert records >= len(newest), "the newest are counted"


def test_rare_ones_are_counted_in_a_long_journal(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "COUNTED", 7)
    found = told.get("/journal/density", buckets=4, actor="cid")
    assert found["is_exact"]
    assert [each["statuses"] for each in found["buckets"] if each["records"]] == [{"rejected": 1}]
    for wrong in ("touching=:1", "q=", "limit=3", "acter=x"):
        told.get(f"/journal/density?{wrong}", expected=400)
    told.get("/journal/density", "clerk", expected=403, actor="bob")
    for shows_values in ("q=note", "touching=accounts:1"):
        for path in ("density", "facets"):
            told.get(f"/journal/{path}?{shows_values}", "auditor", expected=403)
    told.get("/journal/density", "ann", expected=200, actor="ann")


def test_density_where_nothing_was_done(web: Web) -> None:
    assert web.get("/journal/density", since="2999-01-01")["buckets"] == []


def test_facets(told: Web) -> None:
    found = told.get("/journal/facets", "auditor")["facets"]
    assert {each["value"]: each["count"] for each in found["status"] if each["value"]} == {
        "succeeded": 10,
        "rejected": 1,
    }
    assert {each["value"]: each["count"] for each in found["actor"]}["bob"] == 5
    narrowed = told.get("/journal/facets", actor="cid")["facets"]
    assert narrowed["status"] == [{"value": "rejected", "count": 1}]
    assert narrowed["action"] == [{"value": "deposit", "count": 1}]


@pytest.mark.parametrize(
    "given", [{"touching": "accounts"}, {"touching": "accounts:1"}, {"touching": "*"}, {"q": "note"}]
)
def test_facets_count_what_a_page_shows(told: Web, given: dict[str, Any]) -> None:
    found, there = told.get("/journal/facets", **given)["facets"], told.get("/journal", limit=200, **given)["records"]
    for name in ("action", "status", "actor"):
        assert {each["value"]: each["count"] for each in found[name]} == Counter(each.get(name) for each in there)


def test_facets_of_a_window_say_so(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "LOOKED_AT", 4)
    found = told.get("/journal/facets", kind=["submitted", "outcome"])
    end = told.bus.journal.settled()
    assert found["looked_at"] == {"beyond": end - 4, "upto": end}
    assert sum(each["count"] for each in found["facets"]["action"]) == 4


def test_causes(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    (transfer,) = told.get("/journal", action="transfer")["records"]
    found = told.get(f"/journal/causes/{transfer['action_id']}", "auditor")
    assert [each["action"] for each in found["tree"]["caused"]] == ["withdraw", "deposit"]
    assert (found["ancestors"], found["tree"]["has_more"]) == ([], False)
    nested = told.get(f"/journal/causes/{found['tree']['caused'][0]['position']}")
    assert [each["action"] for each in nested["ancestors"]] == ["transfer"]
    narrow = told.get(f"/journal/causes/{transfer['action_id']}", width=1)["tree"]
    assert ([each["action"] for each in narrow["caused"]], narrow["has_more"]) == (["withdraw"], True)
    monkeypatch.setattr(causes, "MOST_NODES", 1)
    assert told.get(f"/journal/causes/{transfer['action_id']}")["tree"]["has_more"]


def test_causes_are_shown_as_deep_as_was_asked(told: Web) -> None:
    first = told.bus.execute("deposit", {"id": 1}, actor="ann")
    last: Any = first
    for _ in range(4):
        last = told.bus.runner("ann").revert(last.action_id)
    tree = told.get(f"/journal/causes/{first.action_id}", depth=2)["tree"]
    levels = []
    while tree["caused"]:
        (tree,) = tree["caused"]
        levels.append(tree["action"])
    assert (levels, tree["has_more"]) == (["revert_action", "revert_action"], True)
    above = told.get(f"/journal/causes/{last.action_id}")["ancestors"]
    assert [each["action"] for each in above] == ["deposit", *["revert_action"] * 3]
    whole = told.get(f"/journal/{first.action_id}")
    assert [each["action"] for each in whole["caused"]] == ["revert_action"]


def test_of_others_actions_nothing_is_told_to_who_reads_his_own(told: Web) -> None:
    (own,) = told.get("/journal", action="transfer")["records"]
    assert told.get(f"/journal/causes/{own['action_id']}", "ann")["tree"]["caused"]
    (others,) = told.get("/journal", actor="cid")["records"]
    for path in (f"/journal/causes/{others['action_id']}", f"/journal/{others['position']}"):
        told.get(path, "ann", expected=404)
    for path in ("/journal/density", "/journal/facets", "/journal/facets?actor=cid"):
        told.get(path, "ann", expected=403)
    assert told.get("/journal/facets", "ann", actor="ann")["facets"]


def test_what_an_action_gave_itself_is_known_again(told: Web) -> None:
    (transfer,) = told.get("/journal", action="transfer")["records"]
    submitted, outcome = told.bus.journal.of_action(transfer["action_id"])
    assert submitted.seed is not None
    assert outcome.started_at is not None
    ids = Ids(submitted.seed, outcome.started_at)
    given = {str(ids.uuid()): "ids.uuid()", ids.hex(11): "ids.hex()", ids.uuid().hex: "ids.uuid()"}
    given |= {outcome.started_at.isoformat(): "clock.now()", "morning": None, "00000000": None, str(uuid4()): None}
    for value, by in given.items():
        found = told.get(f"/journal/generated/{transfer['position']}", "reader", value=value)
        assert found == {"generated": by}, value
    path = f"/journal/generated/{transfer['action_id']}"
    told.get(path, "auditor", expected=403, value="x")
    told.get(path, "clerk", expected=404, value="x")
    told.get(path, expected=400)
    told.get("/journal/generated/0", expected=404, value="x")


def test_hostile(told: Web) -> None:
    for path in (
        "density?buckets=0",
        "density?buckets=401",
        "density?since=x",
        "density?touching=:a",
        "facets?touching=*:a",
        "facets?limit=1",
        "causes/1?depth=11",
        "causes/1?width=0",
        "causes/1?depth=x",
        "facets?kind=x",
    ):
        told.get(f"/journal/{path}", expected=400)
    for path in ("causes/x", "causes/0", "causes/" + "9" * 40):
        told.get(f"/journal/{path}", expected=404)
    wide = told.get("/journal/density?since=0001-01-01&until=9999-12-31T23:59:59&buckets=400")
    assert len(wide["buckets"]) == 400
