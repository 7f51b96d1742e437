"""Breaks an index behind everybody's back: what is stored is changed as nobody who feeds it would."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from actionbus.adapters.elasticsearch import ElasticsearchStore
from tests.projections.conftest import World


def tamper(world: World, key: str, document: dict[str, Any] | None, version: int, name: str = "notes") -> None:
    """Let a document of the served index be another one, of some version; with None it is gone."""
    index = world.store.aliased(name)
    assert index is not None
    if isinstance(world.store, ElasticsearchStore):
        client = world.store.client
        client.options(ignore_status=404).delete(index=index, id=key, refresh=True)
        if document is not None:
            ours = {"actionbus": {"position": version}}
            client.index(index=index, id=key, refresh=True, document=document | ours)
        return
    with world.bus.engine.begin() as connection:
        here = {"name": index, "key": key}
        connection.execute(text("DELETE FROM projection_documents WHERE index_name = :name AND key = :key"), here)
        if document is not None:
            connection.execute(
                text(
                    "INSERT INTO projection_documents (index_name, key, version, document) "
                    "VALUES (:name, :key, :version, :document)"
                ),
                here | {"version": version, "document": json.dumps(document)},
            )
