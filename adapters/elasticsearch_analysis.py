"""How texts are cut into words in an index that declares no analysis: as in the embedded store, without accents.

`elasticsearch.py` creates indices with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from elasticsearch import BadRequestError, Elasticsearch

log = logging.getLogger("actionbus.projections")
FOLDING: Final = "asciifolding"


def create_folded(
    client: Elasticsearch,
    index: str,
    settings: Mapping[str, Any],
    mappings: Mapping[str, Any],
    aliases: Mapping[str, Any],
) -> None:
    """Create an index. A server of the core alone has no such filter: accents count there, as a log says."""
    if any(name == "analysis" or name.startswith(("analysis.", "index.analysis.")) for name in settings):
        client.indices.create(index=index, settings=settings, mappings=mappings, aliases=aliases)
        return
    words = {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", FOLDING]}
    try:
        client.indices.create(
            index=index,
            settings={**settings, "analysis": {"analyzer": {"default": words}}},
            mappings=mappings,
            aliases=aliases,
        )
    except BadRequestError as error:
        if f"[{FOLDING}]" not in str(error):
            raise
        log.warning("this Elasticsearch has no filter %s: searches of %s tell accents apart", FOLDING, index)
        client.indices.create(index=index, settings=settings, mappings=mappings, aliases=aliases)
