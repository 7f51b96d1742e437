"""From problems, logs and JUnit to an action's page, and from there to its logs and its trace."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from actionbus import Bus
from actionbus.adapters.junit import Case, counts_of, junit, summary
from actionbus.adapters.links import PLACES, Links
from actionbus.adapters.logs import formatter
from actionbus.adapters.settings import BadSetting
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.looking import CORPUS, mounted

HERE = "https://inn.example/inspector/"
TRACE = "0af7651916cd43dd8448eb211c80319c"
ONWARD = {
    "ACTIONBUS_LOGS_URL": "https://logs.example/search/{action}?q={correlation_id}&from={since}&to={until}#{position}",
    "ACTIONBUS_TRACE_URL": "https://traces.example/trace/{trace_id}",
}


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with Bus(inn, f"sqlite:///{tmp_path / 'inn.db'}") as bus:
        bus.create()
        yield bus


@pytest.mark.parametrize(
    "wrong",
    [
        {"LOGS_URL": "javascript:alert(1)//{action_id}"},
        {"LOGS_URL": "//logs.example/{action_id}"},
        {"LOGS_URL": "https://{action}.example/"},
        {"LOGS_URL": "https:///{action}"},
        {"TRACE_URL": "https://traces.example/{trace}"},
        {"TRACE_URL": "https://traces.example/{actor.__class__}"},
        {"INSPECTOR_URL": "https://inn.example/{action_id}"},
        {"INSPECTOR_URL": "inn.example"},
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(wrong: dict[str, str]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(BadSetting, match=f"ACTIONBUS_{name}"):
        Links.of({f"ACTIONBUS_{name}": value})


@pytest.mark.parametrize("value", [*CORPUS, "../../x", "a/b?c=d#e&f", "{action_id}", "%00", "//evil.example"])
def test_no_value_leaves_its_place_in_an_address(value: str) -> None:
    template = "https://logs.example/a/{action}/b?q={correlation_id}&z=1"
    found = {"action": value, "outcome": {"correlation_id": value}}
    stored = value.replace("\ud800\udfff", "")
    ((_, where),) = Links.of({"ACTIONBUS_LOGS_URL": template}).onward(
        json.loads(json.dumps(found).replace("\\ud800\\udfff", ""))
    )
    parts = urlsplit(where)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "logs.example", "")
    assert [unquote(each) for each in parts.path.split("/")] == ["", "a", stored, "b"]
    assert [unquote(each) for each in re.split("[=&]", parts.query)] == ["q", stored, "z", "1"]


def test_a_page_leads_to_the_logs_and_the_trace_of_its_action(bus: Bus) -> None:
    context = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    runner = bus.runner("clerk", correlation_id="a b&c", context=context)
    traced = runner.execute("reserve", {"id": "r", "guest": "Anna"})
    plain = bus.execute("reserve", {"id": "s", "guest": "Ben"}, actor="clerk")
    client = mounted(bus, ACTIONBUS_INSPECTOR=True, **ONWARD)

    def onward(which: Any, who: str = "manager") -> list[str]:
        text = client.get(f"/inspector/actions/{which}", headers={"X-Actor": who}).text
        return [html.unescape(each) for each in re.findall(r'href="(https?:[^"]*)"', text)]

    logs, trace = onward(traced.action_id)
    assert logs.startswith("https://logs.example/search/reserve?q=a%20b%26c&from=20")
    assert logs.endswith(f"#{traced.position}")
    assert trace == f"https://traces.example/trace/{TRACE}"
    assert len(onward(plain.action_id)) == 1, "there is no trace"
    assert len(onward(traced.action_id, "auditor")) == 1, "who may not see the context is not told of the trace"


def test_without_settings_nothing_leads_away(bus: Bus) -> None:
    done = bus.execute("reserve", {"id": "r", "guest": "Anna"}, actor="clerk")
    text = (
        mounted(bus, ACTIONBUS_INSPECTOR=True)
        .get(f"/inspector/actions/{done.position}", headers={"X-Actor": "manager"})
        .text
    )
    assert "elsewhere" not in text


def test_a_problem_says_where_its_action_can_be_looked_at(bus: Bus) -> None:
    headers = {"X-Actor": "clerk"}

    def refused(**config: Any) -> Any:
        client = mounted(bus, **config)
        told = client.post("/actions/reserve", json={"id": "x", "guest": "G", "nights": 0}, headers=headers).get_json()
        return told["action_id"], told.get("instance"), client

    action_id, where, client = refused(ACTIONBUS_INSPECTOR=True, ACTIONBUS_INSPECTOR_PREFIX="/look")
    assert where == f"/look/actions/{action_id}"
    assert client.get(where, headers=headers).status_code == 200
    assert refused()[1] is None, "in production there is none"
    action_id, where, _ = refused(ACTIONBUS_INSPECTOR_URL=HERE)
    assert where == f"{HERE}actions/{action_id}"


def test_a_line_of_the_log_leads_to_its_action(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "actionbus"):
        done = bus.execute("reserve", {"id": "r", "guest": "Anna"}, actor="clerk")
    lines = [each for each in caplog.records if getattr(each, "action_id", None)]
    assert len(lines) == 2
    page = f"{HERE}actions/{done.action_id}"
    for record in lines:
        monkeypatch.delenv("ACTIONBUS_INSPECTOR_URL", raising=False)
        assert "inspector" not in json.loads(formatter("json").format(record))
        monkeypatch.setenv("ACTIONBUS_INSPECTOR_URL", HERE)
        assert json.loads(formatter("json").format(record))["inspector"] == page
        assert formatter("text").format(record).endswith(f", {page}")


def test_a_report_says_what_it_counted_and_leads_to_each_action() -> None:
    counts = {"same": 12, "divergent": 1, "order": 1}
    assert counts_of(["else", f" {summary(counts)} "]) == counts | dict.fromkeys(
        ("concurrent", "retired", "unplayable"), 0
    )
    assert counts_of(["1 action", "2 actions: many"]) is None
    case = Case("re\x00price", 23, "divergent", None, ["price: recorded 1, now \ud800"], f"{HERE}actions/1")
    suite = ElementTree.fromstring(junit([case, Case("x", 3, "order", "why", [])], counts))
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "14",
        "failures": "1",
        "skipped": "1",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.text or "").splitlines() == ["price: recorded 1, now �", f"{HERE}actions/1"]


def test_places_are_told(bus: Bus) -> None:
    with pytest.raises(BadSetting, match=", ".join(PLACES)):
        Links.of({"ACTIONBUS_TRACE_URL": "https://x/{}"})
