"""Fixtures of a real Elasticsearch, for the tests that need one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from adapters.elasticsearch import ElasticsearchStore
from adapters.local_elasticsearch.server import LocalServer


@pytest.fixture(scope="session")
def elasticsearch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A node of the tests' own. There is no skipping: where it cannot be had, the tests fail."""
    server = LocalServer(tmp_path_factory.mktemp("elasticsearch"))
    with socket.socket() as probe:  # any port: other tests may be running on this machine
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server.start(port)
    yield server
    server.stop()


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
    """Remove all indices and templates."""
    for index in list(store.client.indices.get(index="*", features="aliases").body):
        store.client.indices.delete(index=index)
    for template in store.client.indices.get_index_template().body["index_templates"]:
        if template["name"].startswith("actionbus-"):
            store.client.indices.delete_index_template(name=template["name"])
