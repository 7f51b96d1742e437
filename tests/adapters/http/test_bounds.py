"""What one request may cost: waits, facets, filters, words are bounded, and the rest is linear in what is sent."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from actionbus.core.values.payload import parse
from actionbus.projections import Projections
from tests.adapters.conftest import Web


def test_however_many_projections_are_waited_for_there_is_one_deadline(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait gets what is left of the time, and a projection is waited for once."""
    given: list[tuple[str, float]] = []
    left = Projections.wait_for

    def noted(self: Projections, name: str, position: Any, timeout: float = 10.0, **more: Any) -> int:
        given.append((name, timeout))
        return left(self, name, position, timeout, **more)

    monkeypatch.setattr(Projections, "wait_for", noted)
    query = "&".join(["wait_for=kits"] * 9 + ["wait_for=assets"] * 9) + "&timeout=0.3"
    response = web.as_("ana").post(f"/actions/create_kit?{query}", json={"name": "A"})
    assert response.get_json()["projected"] == {"kits": False, "assets": False}
    assert [name for name, _ in given] == ["kits", "assets"]
    assert given[0][1] <= 0.3
    assert given[1][1] == 0.0, "the first took all of it"


def test_only_so_many_wait_and_the_others_are_told_before_anything_runs(web: Web, monkeypatch: Any) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def stand(self: Projections, name: str, *_: Any, **__: Any) -> int:
        entered.release()
        assert leave.wait(60)
        return 1

    monkeypatch.setattr(Projections, "wait_for", stand)
    ana = web.as_("ana")
    token = ana.environ_base["HTTP_AUTHORIZATION"]
    answers: list[int] = []

    def ask(number: int) -> None:
        path = "/actions/create_kit?wait_for=kits"
        sent = web.app.test_client().post(path, json={"name": f"k{number}"}, headers={"Authorization": token})
        answers.append(sent.status_code)

    waiting = [threading.Thread(target=ask, args=[number]) for number in range(4)]
    try:
        for each in waiting:
            each.start()
        for _ in waiting:
            assert entered.acquire(timeout=60)
        refused = ana.post("/actions/create_kit?wait_for=kits", json={"name": "one too many"})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "action_id" not in refused.get_json()
        assert not any(r.arguments == {"name": "one too many"} for r in web.bus.journal.read(action="create_kit"))
        assert ana.post("/actions/create_kit", json={"name": "without waiting"}).status_code == 200
    finally:
        leave.set()
        for each in waiting:
            each.join()
    assert answers == [200] * 4
    assert ana.post("/actions/create_kit?wait_for=kits", json={"name": "there is room again"}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "facet=tags" + "&facet=tags" * 7_000,
        "&".join(f"facet=f{number}" for number in range(60)),
        "&".join(f"filter=f{number}:x" for number in range(3_000)),
        "filter=name:x" + "&filter=name:x" * 3_000,
        "q=" + "word+" * 5_000,
        "q=" + "x" * 10_000,
        "q=%00",
        "filter=name:%00",
        "filter=%00:x",
        "facet=%00",
        "sort=%00",
        "range=%00:gt:1",
        "range=added_at:gt:%00",
        "range=added_at:above:1",
        "range=added_at",
        "match=regexp",
        "cursor=" + "A" * 70_000,
        "cursor=%00",
        "cursor=*&page=2",
        "wait_for=kits" + "&wait_for=kits" * 4_000,
    ],
    ids=lambda query: query[:24],
)
def test_a_query_that_asks_too_much_or_nothing_storable_is_refused_before_the_database_is_asked(
    web: Web, do: Callable[..., Any], query: str
) -> None:
    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    web.project()
    searches: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "projection_documents" in statement:
            searches.append(statement)

    event.listen(web.bus.engine, "before_cursor_execute", note)
    if query.startswith("wait_for"):
        response = ana.post(f"/actions/create_kit?{query}", json={"name": "B"})
    else:
        response = ana.get(f"/search/assets?filter=kit_id:{kit}&{query}")
    assert response.status_code == 400, response.text[:300]
    assert response.get_json()["errors"]
    assert not searches


@pytest.mark.parametrize(
    "query", ["facet=name%27", "facet=a..b", "filter=a-b:x", "facet=.", "filter=%22:x", "q=%27%22%29%28%2A%3A"]
)
def test_a_search_that_the_store_cannot_run_is_the_clients_mistake(
    web: Web, do: Callable[..., Any], query: str
) -> None:
    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    do(ana, "add_asset", kit_id=kit, name="a")
    web.project()
    response = ana.get(f"/search/assets?filter=kit_id:{kit}&{query}")
    assert response.status_code in (200, 400), response.text
    assert "Retry-After" not in response.headers
    assert "SELECT" not in response.text


@pytest.mark.parametrize(
    "query",
    [
        "filter=_seq_no:1",
        "facet=_index",
        "facet=actionbus.position",
        "filter=name:a",
        "sort=-_id",
        "sort=name",
        "range=_seq_no:gt:1",
        "range=words:gt:a",
    ],
)
def test_only_declared_fields_are_searched_by(web: Web, do: Callable[..., Any], query: str) -> None:
    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    web.project()
    response = ana.get(f"/search/assets?filter=kit_id:{kit}&{query}")
    assert response.status_code == 400
    assert "assets has no field" in response.get_json()["detail"]


LENGTH = 400_000


def _repeated_last() -> str:
    names = ",".join(f'"{number:06d}":1' for number in range(LENGTH // 11))
    return "{" + names + ',"x":1,"x":2}'


def _harmless(text: str) -> str:
    return json.dumps({"name": ["x" * 9] * (len(text) // 14)})


@pytest.mark.parametrize(
    "hostile",
    [
        _repeated_last(),
        '{"a":' * 30 + _repeated_last() + "}" * 30,
        "[" + ",".join(['{"a":1,"b":2}'] * (LENGTH // 15)) + ',{"a":1,"a":1}]',
        "[" + "9" * 4_000 + ("," + "9" * 4_000) * 90 + "]",
        "[0." + "1" * LENGTH + "]",
        "[1e-" + "1" * 400 + ",1e999999999,1E-999999999" * (LENGTH // 30) + "]",
        '["' + "\\u00e9" * (LENGTH // 6) + '"]',
        "[" * LENGTH,
        '["' + "a" * LENGTH,
    ],
    ids=lambda text: text[:12],
)
def test_reading_json_takes_time_in_proportion_to_its_length(hostile: str) -> None:
    """Compared with harmless JSON of the same length, in processor time of this thread; a square would be thousands."""

    def cost(text: str) -> float:
        gc.collect()
        gc.disable()  # what it would look through is all that the tests before have left
        try:
            began = time.thread_time()
            for _ in range(3):
                try:
                    parse(text)
                except ValueError:
                    pass
            return time.thread_time() - began
        finally:
            gc.enable()

    assert cost(hostile) < 150 * max(cost(_harmless(hostile)), 0.001)
