"""Fixtures of a real Elasticsearch, for the tests that need one.

They come first, so that the first of xdist's processes gets them all, and one node is started and not one for each
(`--dist worksteal` gives each process its part of the list, and lets it take from the end of another's when it is done).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.local_elasticsearch.install import NotInstallable
from actionbus.adapters.local_elasticsearch.server import LocalServer
from tests.servers import free_port
from tests.waiting import eventually

FIXTURES = {"elasticsearch_server", "elasticsearch_url", "elasticsearch_store", "make_real_world"}


LONG = frozenset(
    {
        "test_any_history.py",
        "test_campaign.py",
        "test_concurrency.py",
        "test_deaths.py",
        "test_docs.py",
        "test_packaging.py",
        "test_payments.py",
        "test_serving.py",
        "test_structure.py",
    }
)
"""Files with tests of many seconds: begun last, they would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need a node first, and those of long files where the second process begins."""
    first, long, rest = [], [], []
    for item in items:
        (first if needs_node(item) else long if item.path.name in LONG else rest).append(item)
    others = first + rest
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    begin = len(items) // processes if processes > 1 else len(first)
    items[:] = [*others[:begin], *long, *others[begin:]]


def needs_node(item: pytest.Item) -> bool:
    """By its fixtures, or the name of a parameter."""
    return bool(FIXTURES & set(getattr(item, "fixturenames", ()))) or "elasticsearch" in item.name.partition("[")[2]


@pytest.fixture(scope="session")
def elasticsearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A node of the tests' own. There is no skipping: where it cannot be had, the tests fail."""
    server = LocalServer(tmp_path_factory.mktemp("elasticsearch"))
    eventually(lambda: started(server), "Elasticsearch answers")
    yield server
    server.kill()


def started(server: LocalServer) -> bool:
    """Start it at any port, for other tests may be running on this machine; again if somebody was faster to take it."""
    try:
        server.start(free_port())
    except (NotInstallable, TimeoutError):
        if "BindException" in server.log.read_text(errors="replace") or server.url():
            return False
        raise
    return True


@pytest.fixture(scope="session")
def elasticsearch_url(request: pytest.FixtureRequest) -> str:
    """The server named by the environment, or one of our own."""
    if url := os.environ.get("ACTIONBUS_TEST_ELASTICSEARCH_URL"):
        return url
    server: LocalServer = request.getfixturevalue("elasticsearch_server")
    return str(server.url())


@pytest.fixture
def elasticsearch_store(elasticsearch_url: str) -> Iterator[ElasticsearchStore]:
    """An empty Elasticsearch."""
    store = ElasticsearchStore(elasticsearch_url, timeout=10)
    clear(store)
    yield store
    clear(store)
    store.close()


def clear(store: ElasticsearchStore) -> None:
    """Remove all indices, many at a time: each request changes the state of the cluster, whatever it removes."""
    found = list(store.client.indices.get(index="*", features="aliases").body)
    for start in range(0, len(found), 20):
        store.client.indices.delete(index=found[start : start + 20])
