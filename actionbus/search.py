"""Reading the projections: `EsRepo`, its provider, and where documents are kept; see docs/projections.md."""

from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.wiring import es_repo, store_for

__all__ = ["EsRepo", "es_repo", "store_for"]
