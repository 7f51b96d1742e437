"""The shipped contracts, kept by what is ours: both backends, and Celery's queue over a real Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from redis import Redis as Client
from sqlalchemy.engine import URL

from actionbus import Broker, Bus
from actionbus.celery import CeleryBroker
from actionbus.contracts import BackendContract, BrokerContract
from actionbus.core.storage.backend import Backend
from tests.servers import Redis, free_port
from tests.shop.app import make_application
from tests.waiting import eventually


class TestBackends(BackendContract):
    """PostgreSQL and SQLite."""

    @pytest.fixture
    def backend(self, url: URL) -> Iterator[Backend]:
        with Bus(make_application(), url) as bus:
            bus.journal.create()
            yield bus.backend


class TestCelery(BrokerContract):
    """Redis, read as a worker of ours reads it."""

    @pytest.fixture
    def broker(self, redis: Redis) -> Broker:
        return CeleryBroker(redis.url)

    @pytest.fixture
    def away(self) -> Broker:
        return CeleryBroker(f"redis://127.0.0.1:{free_port()}/0")

    @pytest.fixture
    def arrived(self, redis: Redis) -> Iterator[Callable[[int], set[UUID]]]:
        with Client.from_url(redis.url) as client:

            def ids(count: int) -> set[UUID]:
                eventually(lambda: client.llen("actions") == count, f"{count} messages have arrived")
                bodies = (json.loads(each)["body"] for each in client.lrange("actions", 0, -1))  # type: ignore[union-attr]
                return {UUID(json.loads(base64.b64decode(body))[1]["action_id"]) for body in bodies}

            yield ids
