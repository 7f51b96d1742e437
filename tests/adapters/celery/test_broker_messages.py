"""Who can write to the broker can neither stop a worker nor make it do anything but run what is due."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu.transport.redis import Channel
from redis import Redis as Client
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.adapters.celery import CeleryBroker, make_celery
from tests.adapters.celery.workers import Workers
from tests.conftest import prepared
from tests.servers import Redis
from tests.shop.app import make_application


class Station:
    """A worker with its Redis, and a bus beside it."""

    def __init__(self, url: URL, redis: Redis, workers: Workers) -> None:
        self.workers = workers
        self.redis = redis
        self.client = Client.from_url(redis.url)
        self.bus = Bus(make_application(), url, broker=CeleryBroker(redis.url, redeliver_after=2))
        self.process = workers.start("--queue", "actions")

    def works(self) -> None:
        """Something that is queued now is run by the process that was started first, and nothing is left over."""
        account = uuid4().int % 2**31
        ticket = self.bus.runner("ana").execute_async("open_account", {"id": account, "name": str(account)})
        assert ticket.wait(60).status == "succeeded"
        assert self.process.poll() is None, self.workers.told()[-3000:]
        self.workers.until(lambda: not self.client.keys("unacked*") and not self.client.llen("actions"))


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("station")
    url = make_url(f"sqlite:///{folder / 'shop.db'}")
    prepared(url)
    redis = Redis()
    redis.start()
    workers = Workers(url, redis, Path(folder / "worker.log"))
    found = Station(url, redis, workers)
    try:
        found.works()
        yield found
    finally:
        workers.close()
        found.bus.close()
        found.client.close()
        redis.kill()


def genuine(**changes: Any) -> dict[str, Any]:
    """A message as Celery makes it for an action that nobody submitted; `changes` are made to its headers."""
    known = str(uuid4())
    body = base64.b64encode(json.dumps([[], {"action_id": known}, {}]).encode()).decode()
    info = {"exchange": "", "routing_key": "actions"}
    headers = {"lang": "py", "task": "actionbus.run", "id": known, "root_id": known, "parent_id": None, "group": None}
    return {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers | changes,
        "properties": {"body_encoding": "base64", "delivery_tag": known, "delivery_info": info, "priority": 0},
    }


def without(*path: str) -> dict[str, Any]:
    made = part = genuine()
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return made


NOT_JSON = {
    "words": b"garbage",
    "nothing": b"",
    "half": b'{"body": "',
    "binary": bytes(range(256)),
    "a pickle": b"\x80\x04N.",
    "too deep": b"[" * 200_000,
    "a decoder that fails": b'{"__type__": "uuid", "__value__": 5}',
    "a decoder that is none": b'{"__type__": ["x"], "__value__": 5}',
    "a long number": b"1" * 20_000,
}
OF_ANOTHER_FORM: dict[str, Any] = {
    "null": None,
    "a number": 1,
    "text": "x",
    "a list": [],
    "an empty object": {},
    "a list of one": [genuine()],
    "headers are a list": {**genuine(), "headers": ["task"]},
    "no headers": without("headers"),
    "no task": without("headers", "task"),
    "no id": without("headers", "id"),
    "another task": genuine(task="os.system"),
    "a task that is a list": genuine(task=["actionbus.run"]),
    "an id that is none": genuine(id="../etc"),
    "an id that is a list": genuine(id=[1]),
    "an empty id": genuine(id=""),
    "a long id": genuine(id="9" * 100_000),
}
THAT_ASK_FOR_MORE: dict[str, Any] = {
    "no body": without("body"),
    "no properties": without("properties"),
    "no lang": without("headers", "lang"),
    "no tag": without("properties", "delivery_tag"),
    "no delivery info": without("properties", "delivery_info"),
    "a body that is no base64": {**genuine(), "body": "ä"},
    "a body that is a number": {**genuine(), "body": 7},
    "another encoding": {**genuine(), "content-encoding": "no-such"},
    "a pickle's type": {**genuine(), "content-type": "application/x-python-serialize"},
    "a type that is none": {**genuine(), "content-type": 7},
    "properties that are none": {**genuine(), "properties": 7},
    "a limit that kills": genuine(timelimit=[0.001, 0.001]),
    "a limit that is none": genuine(timelimit="x"),
    "a time to wait for": genuine(eta="2099-01-01T00:00:00"),
    "a time that is none": genuine(eta="x"),
    "an end": genuine(expires="2000-01-01T00:00:00"),
    "an end that is none": genuine(expires=[]),
    "retries": genuine(retries="x"),
    "stamps": genuine(stamps=7, stamped_headers=7),
    "a group": genuine(group={}),
    "compression": genuine(compression="no-such"),
    "a chain": genuine(chain="x", callbacks=[{"task": "x"}]),
}


@pytest.mark.parametrize("item", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_dropped_and_told(station: Station, item: bytes) -> None:
    _is_dropped(station, item, "not JSON")


@pytest.mark.parametrize("item", OF_ANOTHER_FORM.values(), ids=OF_ANOTHER_FORM)
def test_json_of_another_form_is_dropped_and_told(station: Station, item: Any) -> None:
    _is_dropped(station, json.dumps(item).encode(), "asks for no action")


def _is_dropped(station: Station, item: bytes, told: str) -> None:
    before = station.workers.told().count(told)
    station.client.lpush("actions", item)
    station.works()
    station.workers.until(lambda: station.workers.told().count(told) == before + 1)


@pytest.mark.parametrize("item", THAT_ASK_FOR_MORE.values(), ids=THAT_ASK_FOR_MORE)
def test_what_a_message_says_besides_an_id_is_not_heard(station: Station, item: Any) -> None:
    """One of them asks for an action that waits for its time, after which the worker works on as before."""
    waiting = station.bus.runner("ana").execute_async("call_back", {}, countdown=3600)
    item["headers"]["id"] = str(waiting.action_id)
    station.client.lpush("actions", json.dumps(item))
    station.works()
    run = station.bus.runs.get(waiting.action_id)
    assert run is not None
    assert (run.state, run.attempts, run.worker) == ("queued", 0, None)


@pytest.mark.parametrize("command", ["revoke", "shutdown", "rate_limit", "cancel_consumer", "pool_shrink"])
def test_remote_control_is_off(station: Station, command: str) -> None:
    app = make_celery(station.redis.url)
    waiting = station.bus.runner("ana").execute_async("call_back", {}, countdown=3600)
    arguments = {
        "revoke": {"task_id": str(waiting.action_id), "terminate": True},
        "shutdown": {},
        "pool_shrink": {"n": 2},
        "rate_limit": {"task_name": "actionbus.run", "rate_limit": "1/h"},
        "cancel_consumer": {"queue": "actions"},
    }[command]
    assert app.control.ping(timeout=1) == []
    app.control.broadcast(command, arguments=arguments)
    for _ in range(3):
        station.works()


def test_only_the_id_travels(station: Station) -> None:
    """What is asked, by whom and in which context stays in the database."""
    unheard = Bus(make_application(), station.bus.engine, broker=CeleryBroker(f"{station.redis.url[:-1]}1"))
    runner = unheard.runner("ana-the-actor", correlation_id="the-correlation", context={"tenant": "the-context"})
    tickets = [
        runner.execute_async("open_account", {"id": 8, "name": "the-argument"}),
        runner.execute_async("open_account", {"id": 9, "name": "the-argument-later"}, countdown=0),
    ]
    items = Client.from_url(unheard.broker.app.conf.broker_url).lrange("actions", 0, -1)  # type: ignore[union-attr,attr-defined]
    assert len(items) == 2
    for item, ticket in zip(reversed(items), tickets, strict=True):
        message = json.loads(item)
        assert json.loads(base64.b64decode(message["body"]))[:2] == [[], {"action_id": str(ticket.action_id)}]
        told = item + base64.b64decode(message["body"])
        for kept in (b"ana-the-actor", b"the-correlation", b"the-context", b"the-argument", b"open_account"):
            assert kept not in told


WRITTEN: dict[str, Callable[[Client, str], Any]] = {
    "text": lambda client, key: client.set(key, "x"),
    "a hash": lambda client, key: client.hset(key, "x", "y"),
    "a set": lambda client, key: client.sadd(key, "x"),
    "a sorted set": lambda client, key: client.zadd(key, {"x": 0}),
    "a list": lambda client, key: client.lpush(key, "x"),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
}
NAMES = [getattr(Channel, name) for name in dir(Channel) if name.endswith("_key") or name.startswith("keyprefix_")]
KEYS = [f"actions{Channel.sep}{step}".removesuffix(f"{Channel.sep}0") for step in Channel.priority_steps]
KEYS += [name.replace("%s", "actions") for name in NAMES if isinstance(name, str)]
"""All that kombu keeps in Redis."""


@pytest.mark.parametrize("written", WRITTEN)
def test_a_key_of_another_kind_stops_neither_worker_nor_publishing(station: Station, written: str) -> None:
    """Whichever of kombu's keys it is; for a worker that runs, and for connections that are made anew."""
    for cut in (False, True):
        for key in KEYS:
            station.client.delete(key)
            WRITTEN[written](station.client, key)
        mine = station.client.client_id()
        for other in [each["id"] for each in station.client.client_list() if cut and int(each["id"]) != mine]:
            station.client.client_kill_filter(_id=other)
        account = uuid4().int % 2**31
        ticket = station.bus.runner("ana").execute_async("open_account", {"id": account, "name": str(account)})
        assert ticket.wait(60).status == "succeeded"
    assert written == "a list" or station.client.keys("*:set-aside-*")
    station.client.flushdb()
    station.works()


def test_a_worker_starts_whatever_lies_in_redis(station: Station) -> None:
    for key, write in zip(KEYS, [*WRITTEN.values()] * len(KEYS), strict=False):
        write(station.client, key)
    ready = station.workers.told().count(" ready.")
    second = station.workers.start("--queue", "actions")
    station.workers.until(lambda: station.workers.told().count(" ready.") > ready)
    second.terminate()
    assert second.wait(60) == 0
    station.client.flushdb()
    station.works()


def test_our_side_keeps_nothing_in_redis_but_the_queue(station: Station) -> None:
    station.client.flushdb()
    ticket = station.bus.runner("ana").execute_async("call_back", {}, countdown=0)
    assert ticket.problem is None
    station.works()
    assert {*station.client.keys()} <= {b"actions"}


def test_what_is_written_beside_the_queue_does_not_end_the_worker(station: Station) -> None:
    """Where kombu keeps what was taken and not acknowledged. A worker that starts looks there for what the dead left."""
    forged = [*NOT_JSON.values(), b"7", b"[]", b'[{}, "", "actions"]', b'[7, "", "actions"]', b"[[], [], []]"]
    for number, item in enumerate(forged):
        station.client.hset("unacked", f"forged {number}", item)
        station.client.zadd("unacked_index", {f"forged {number}": 0})
    second = station.workers.start("--queue", "actions")
    station.workers.until(lambda: station.workers.told().count(" ready.") == 2)
    account = uuid4().int % 2**31
    ticket = station.bus.runner("ana").execute_async("open_account", {"id": account, "name": str(account)})
    assert ticket.wait(60).status == "succeeded"
    assert (station.process.poll(), second.poll()) == (None, None)
    station.client.delete("unacked", "unacked_index")
    station.works()
