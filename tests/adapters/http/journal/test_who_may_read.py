"""Who reads what over `/journal…`: nothing without `journal:read`, no value without `journal:payloads`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from tests.adapters.http.journal.reading import Web, roles
from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import models

PATHS = ("/journal", "/journal?actor=bob", "/journal?touching=accounts:1", "/journal?action=deposit")
MASKED = {"$masked": True}
VALUES = ("note 0", "account 1", "no such account", '"balance": 5', '"source": 1')
"""Of arguments, rows, errors and results of the shop."""


@pytest.mark.parametrize("path", PATHS)
def test_who_has_no_permission_gets_nothing(told: Web, path: str) -> None:
    for actor in ("clerk", "ann", "bob"):
        problem = told.get(path, actor, expected=403)
        assert set(problem) == {"type", "title", "status", "detail"}


def test_who_has_it_for_his_own_sees_his_own_alone(told: Web) -> None:
    assert told.get("/journal", "ann", actor="ann")["records"]
    for query in ({"actor": "bob"}, {"actor": ["ann", "bob"]}, {}, {"exclude_actor": "bob"}):
        told.get("/journal", "ann", expected=403, **query)


def test_of_somebody_elses_action_one_is_not_told_whether_it_is_there(told: Web) -> None:
    record = told.bus.journal.tail(1)[0]
    there, nowhere = record.action_id, uuid4()
    answers = [json.dumps(told.get(f"/journal/{which}", "clerk", expected=404)) for which in (there, nowhere)]
    assert answers[0].replace(str(there), "") == answers[1].replace(str(nowhere), "")
    for which in (str(record.position), "0", "x", "9" * 30, f"{there}0"):
        told.get(f"/journal/{which}", "clerk", expected=404)
    for which in ("0", "x", "9" * 30, "%00", "a" * 10_000):
        told.get(f"/journal/{which}", "officer", expected=404)


def test_without_a_checkpoint_nobody_reads(url: URL) -> None:
    with Bus(Application("open", actions=["tests.core.no_actions"]), url) as bus:
        bus.create()
        web = Web(bus)
        web.get("/journal", expected=403)
        web.get("/journal/1", expected=404)


def everything(web: Web, actor: str) -> str:
    """All that a reader is shown of the journal, page by page and action by action."""
    pages = [web.get("/journal", actor, kind=["submitted", "outcome", "bypass"], limit=200)]
    ids = {each["action_id"] for each in pages[0]["records"]}
    return json.dumps([pages, [web.get(f"/journal/{each}", actor) for each in ids]])


def test_without_the_permission_for_payloads_values_are_masked(told: Web) -> None:
    seen, masked = everything(told, "reader"), everything(told, "auditor")
    for value in VALUES:
        assert value in seen
        assert value not in masked
    (newest,) = told.get("/journal", "auditor", actor="bob", limit=1)["records"]
    assert newest["arguments"] == {"id": MASKED, "amount": MASKED, "note": MASKED}
    assert newest["result"] == MASKED
    whole = told.get(f"/journal/{newest['action_id']}", "auditor")
    (row,) = [each for each in whole["changes"] if each["table"].endswith("accounts")]
    assert (row["columns"], row["after"]["balance"], row["key"]) == (["balance"], MASKED, {"id": MASKED})


def test_names_that_nobody_declared_are_values_too(told: Web) -> None:
    for action, arguments in (("deposit", {"ada@example.com": 1}), ("unheard_of", {"ada@example.com": 1})):
        with pytest.raises(Exception, match=r"unknown|field|action|Unknown"):
            told.bus.execute(action, arguments, actor="bob")
    assert "ada@example.com" in everything(told, "reader")
    assert "ada@example.com" not in everything(told, "auditor")


@pytest.mark.parametrize("query", [{"touching": "accounts:1"}])
def test_nobody_finds_out_by_asking_what_he_may_not_see(told: Web, query: dict[str, Any]) -> None:
    assert told.get("/journal", "reader", **query)["records"]
    told.get("/journal", "auditor", expected=403, **query)
    assert told.get("/journal", "auditor", touching="accounts")["records"]


@pytest.fixture
def clinic(url: URL) -> Iterator[Web]:
    actions = ["tests.core.privacy.actions"]
    application = Application("clinic", actions=actions, models=models(), dependencies={"checkpoint": roles})
    with Bus(application, url) as bus:
        bus.create()
        yield Web(bus)


def test_personal_values_are_withheld_but_from_who_may_see_them(clinic: Web) -> None:
    def admitted(handler: Any) -> Any:
        values = {"id": 7, "name": "Ada Lovelace", "ward": "east"}
        handler.session.execute(clinic.bus.application.models.tables["patients"].insert().values(values))
        return {"greeting": "Dear Ada Lovelace", "bed": 12}

    Admit.function = admitted
    done = clinic.bus.execute("admit", {"patient_id": 7, "name": "Ada Lovelace", "remark": "tall"}, actor="ann")
    path = f"/journal/{done.action_id}"
    assert "Lovelace" in json.dumps(clinic.get(path, "officer"))
    whole = clinic.get(path, "reader")
    assert whole["submitted"]["arguments"] == {"patient_id": 7, "name": {"$personal": True}, "remark": "tall"}
    assert whole["outcome"]["result"] == {"greeting": "Dear [personal]", "bed": 12}
    (row,) = whole["changes"]
    assert (row["after"]["name"], row["after"]["greeting"]) == ({"$personal": True}, {"$personal": True})
    assert (row["after"]["ward"], row["after"]["born"]) == ("east", None)
    for actor in ("reader", "auditor"):
        assert "Lovelace" not in everything(clinic, actor)
