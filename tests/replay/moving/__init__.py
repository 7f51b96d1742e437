"""Actions on tables that change: `TABLES` holds those of the present code, which know what they ask of them."""

from typing import Any

TABLES: dict[str, Any] = {}
