"""SQL of the record that an image `i` belongs to on PostgreSQL. Used by `images_postgresql`, which has the argument."""

from __future__ import annotations

from typing import Final

_IS_OUTCOME: Final = """o.kind = 'outcome' AND o.xid = i.xid
    AND o.action_id = CASE WHEN length(i.action) = 32 AND i.action !~ '[^0-9a-f]' THEN i.action::uuid END"""
OUTCOME: Final = f"LEFT JOIN {{home}}journal o ON {_IS_OUTCOME}"
OWN_OUTCOME: Final = f"(SELECT o.position FROM {{home}}journal o WHERE {_IS_OUTCOME})"
BYPASS: Final = """(SELECT b.position FROM {home}journal b WHERE b.kind = 'bypass' AND b.xid = i.xid
    AND b.images_upto >= i.image ORDER BY b.images_upto LIMIT 1)"""
FIRST_AFTER: Final = """(SELECT f.position FROM {home}journal f WHERE f.images_upto >= i.image
    ORDER BY f.position LIMIT 1)"""
PLACED: Final = f"coalesce(o.position, {BYPASS}, {FIRST_AFTER})"
"""With OUTCOME joined."""
PLACED_ONE_BY_ONE: Final = f"coalesce({OWN_OUTCOME}, {BYPASS}, {FIRST_AFTER})"
"""Each outcome by its index."""
