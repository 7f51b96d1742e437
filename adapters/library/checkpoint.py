"""The `checkpoint` dependency: who may do what with which kit, asked of the sharing rules in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from actionbus import PermissionDenied
from actionbus.adapters.library.repo import Repo
from actionbus.core.actions import OPERATOR

_RANKS = {"viewer": 1, "editor": 2, "owner": 3}
_NEEDS = {"view": "viewer", "edit": "editor", "own": "owner"}


class Checkpoint:
    """Permissions are `kits:create`, `tokens:own`, `tokens:issue` for operators alone, `kit:` or `asset:` with `view`,
    `edit` or `own`, and `search:` with a projection, which takes a filter by a kit that the actor may view. Nobody
    reads the records of others.

    What does not exist is let through: the action itself then says so. A kit's existence is no secret; its id is
    not to be guessed.
    """

    def __init__(self, repo: Repo, actor: str | None) -> None:
        self._repo = repo
        self._actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        """Raise PermissionDenied unless the actor may."""
        if self._actor is None:
            raise PermissionDenied("nobody is logged in; say who acts (--actor on the command line)")
        subject, _, verb = permission.partition(":")
        if subject == "kit":
            self.require_role(arguments.kit_id, _NEEDS[verb])
        elif subject == "asset":
            asset = self._repo.asset(arguments.asset_id)
            if asset is not None:
                self.require_role(asset.kit_id, _NEEDS[verb])
        elif subject == "search":
            self._require_view_of_all(arguments.filters.get("kit_id", []))
        elif permission == "tokens:issue" and self._actor.startswith(OPERATOR):
            return
        elif permission not in ("kits:create", "tokens:own"):
            raise PermissionDenied(f"nobody has the permission {permission}")

    def require_role(self, kit_id: UUID, role: str) -> None:
        """Raise PermissionDenied unless the actor has at least `role` in the kit."""
        if self._repo.kit(kit_id) is None or self.may(kit_id, role):
            return
        has = self._repo.role(kit_id, self._actor or "")
        raise PermissionDenied(f"{self._actor} is {has or 'no member'} of this kit; it takes {_article(role)}")

    def _require_view_of_all(self, kit_ids: Sequence[str]) -> None:
        if not kit_ids:
            raise PermissionDenied("search within kits that you may view: add the filter kit_id")
        for text in kit_ids:
            try:
                allowed = self.may(UUID(text), "viewer")
            except ValueError:
                allowed = False
            if not allowed:
                raise PermissionDenied(f"{self._actor} may not view the kit {text[:100]}")

    def may(self, kit_id: UUID, role: str) -> bool:
        """Whether the actor has at least `role` in the kit."""
        has = self._repo.role(kit_id, self._actor or "")
        return _RANKS.get(has or "", 0) >= _RANKS[role]


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def checkpoint(repo: Repo, actor: str | None) -> Checkpoint:
    """Provider of `checkpoint`."""
    return Checkpoint(repo, actor)
