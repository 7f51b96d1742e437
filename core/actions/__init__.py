"""The reference application's actions, one per file: a digital asset library of kits, assets and tags.

What the actions need of the outside is described here, so that they import nothing but `core`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from actionbus import WHOLE_ACTION as WHOLE_ACTION

NAME_LENGTH = 120
TAG_LENGTH = 60
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
OPERATOR = "operator:"
"""What the names of operators begin with: who runs commands on the database itself. No token is issued to them."""


class Kit(Protocol):
    """A named collection of assets with one owner."""

    id: UUID
    name: str
    owner: str


class Asset(Protocol):
    """One thing in a kit: an icon, a photo, a sound, a video."""

    id: UUID
    kit_id: UUID
    name: str
    kind: str


class Repo(Protocol):
    """What the actions ask of the database; `adapters.library.repo` answers."""

    def kit(self, kit_id: UUID) -> Kit | None:
        """The kit, locked against changes by others until the action ends."""

    def kit_named(self, owner: str, name: str) -> Kit | None: ...
    def kits_to_edit(self, member: str) -> Sequence[UUID]:
        """The kits that a member owns or may edit."""

    def add_kit(self, *, id: UUID, name: str, owner: str, description: str, created_at: datetime) -> None: ...
    def rename_kit(self, kit_id: UUID, name: str) -> None: ...
    def remove_kit(self, kit_id: UUID) -> None: ...
    def set_role(self, kit_id: UUID, member: str, role: str) -> None: ...
    def drop_role(self, kit_id: UUID, member: str) -> bool: ...
    def asset(self, asset_id: UUID) -> Asset | None:
        """The asset, locked like `kit`."""

    def asset_named(self, kit_id: UUID, name: str) -> Asset | None: ...
    def assets(self, kit_id: UUID) -> Sequence[Mapping[str, Any]]:
        """All assets of a kit with their tags, as JSON, by name."""

    def asset_count(self, kit_id: UUID) -> int: ...
    def add_asset(
        self,
        *,
        id: UUID,
        kit_id: UUID,
        name: str,
        kind: str,
        content: str,
        names: Mapping[str, str],
        tags: Sequence[str],
        created_at: datetime,
    ) -> None: ...
    def rename_asset(self, asset_id: UUID, name: str) -> None: ...
    def move_asset(self, asset_id: UUID, kit_id: UUID) -> None: ...
    def remove_asset(self, asset_id: UUID) -> None: ...
    def tag(self, asset_id: UUID, tags: Sequence[str]) -> list[str]:
        """Add tags; those that were new."""

    def untag(self, asset_id: UUID, tags: Sequence[str]) -> list[str]:
        """Take tags away; those that were there."""


class Tokens(Protocol):
    """API tokens; `adapters.library.repo` answers."""

    def add_token(
        self, *, id: UUID, actor: str, digest: str, label: str, created_at: datetime, expires_at: datetime
    ) -> None: ...
    def has_digest(self, digest: str) -> bool: ...
    def revoke_token(self, token_id: UUID, holder: str | None) -> bool:
        """Whether there was such a token, of the holder if one is given; now it is gone."""


class Checkpoint(Protocol):
    """Asks the sharing rules; `adapters.library.checkpoint` answers."""

    def require(self, permission: str, arguments: Any) -> None:
        """Raise PermissionDenied unless the actor may."""

    def require_role(self, kit_id: UUID, role: str) -> None:
        """Raise PermissionDenied unless the actor has at least `role` in the kit."""

    def may(self, kit_id: UUID, role: str) -> bool:
        """Whether the actor has at least `role` in the kit."""


class Hit(Protocol):
    """A document that a search found."""

    @property
    def key(self) -> str: ...


class Hits(Protocol):
    """What a search found."""

    @property
    def total(self) -> int: ...
    @property
    def hits(self) -> Sequence[Hit]: ...


class EsRepo(Protocol):
    """Searches projections: outside the action's transaction, so its calls are recorded."""

    def search(
        self, projection: str, text: str = "", *, filters: Mapping[str, Any] | None = None, limit: int = 20
    ) -> Hits: ...


class Storage(Protocol):
    """Where exports go: outside the database, so its calls are recorded."""

    def put(self, name: str, text: str) -> str:
        """Store a text under a name; where it is now."""
