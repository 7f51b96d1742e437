"""The `repo` dependency: the library's reads and writes, on the action's session. Written for `core.actions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from actionbus.adapters.library.models import AssetRow, KitRow, RoleRow, TagRow, TokenRow


class Repo:
    """What `core.actions.Repo` asks for. Rows that an action decides on are locked until it ends."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def kit(self, kit_id: UUID) -> KitRow | None:
        """The kit, locked."""
        return self._session.get(KitRow, kit_id, with_for_update=True)

    def kit_named(self, owner: str, name: str) -> KitRow | None:
        """The owner's kit of that name."""
        return self._session.scalars(select(KitRow).filter_by(owner=owner, name=name)).first()

    def kits_to_edit(self, member: str) -> list[UUID]:
        """The kits that a member owns or may edit, in order of their ids."""
        shared = select(RoleRow.kit_id).filter_by(member=member, role="editor")
        may_edit = or_(KitRow.owner == member, KitRow.id.in_(shared))
        return list(self._session.scalars(select(KitRow.id).where(may_edit).order_by(KitRow.id)))

    def add_kit(self, *, id: UUID, name: str, owner: str, description: str, created_at: datetime) -> None:
        """A new kit."""
        self._session.add(KitRow(id=id, name=name, owner=owner, description=description, created_at=created_at))

    def rename_kit(self, kit_id: UUID, name: str) -> None:
        """Another name."""
        self._session.get_one(KitRow, kit_id).name = name

    def remove_kit(self, kit_id: UUID) -> None:
        """The kit and its roles, gone."""
        for role in self._session.scalars(select(RoleRow).filter_by(kit_id=kit_id)):
            self._session.delete(role)
        self._session.flush()
        self._session.delete(self._session.get_one(KitRow, kit_id))

    def role(self, kit_id: UUID, member: str) -> str | None:
        """`owner`, `editor`, `viewer` or None."""
        kit = self._session.get(KitRow, kit_id)
        if kit is not None and kit.owner == member:
            return "owner"
        found = self._session.get(RoleRow, (kit_id, member))
        return found.role if found else None

    def set_role(self, kit_id: UUID, member: str, role: str) -> None:
        """Give or change a role."""
        found = self._session.get(RoleRow, (kit_id, member))
        if found is None:
            self._session.add(RoleRow(kit_id=kit_id, member=member, role=role))
        else:
            found.role = role

    def drop_role(self, kit_id: UUID, member: str) -> bool:
        """Take a role away; False if there was none."""
        found = self._session.get(RoleRow, (kit_id, member))
        if found is not None:
            self._session.delete(found)
        return found is not None

    def asset(self, asset_id: UUID) -> AssetRow | None:
        """The asset, locked."""
        return self._session.get(AssetRow, asset_id, with_for_update=True)

    def asset_named(self, kit_id: UUID, name: str) -> AssetRow | None:
        """The kit's asset of that name."""
        return self._session.scalars(select(AssetRow).filter_by(kit_id=kit_id, name=name)).first()

    def assets(self, kit_id: UUID) -> list[dict[str, Any]]:
        """All assets of a kit as JSON, by name."""
        tags: dict[UUID, list[str]] = {}
        tagged = select(TagRow).join(AssetRow, AssetRow.id == TagRow.asset_id).where(AssetRow.kit_id == kit_id)
        for row in self._session.scalars(tagged.order_by(TagRow.tag)):
            tags.setdefault(row.asset_id, []).append(row.tag)
        rows = self._session.scalars(select(AssetRow).filter_by(kit_id=kit_id).order_by(AssetRow.name))
        return [{"name": a.name, "kind": a.kind, "content": a.content, "tags": tags.get(a.id, [])} for a in rows]

    def asset_count(self, kit_id: UUID) -> int:
        """How many assets a kit holds."""
        return self._session.scalar(select(func.count()).select_from(AssetRow).filter_by(kit_id=kit_id)) or 0

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
    ) -> None:
        """A new asset with its tags."""
        asset = AssetRow(
            id=id, kit_id=kit_id, name=name, kind=kind, content=content, names=dict(names), created_at=created_at
        )
        self._session.add(asset)
        self._session.flush()
        self.tag(id, tags)

    def rename_asset(self, asset_id: UUID, name: str) -> None:
        """Another name."""
        self._session.get_one(AssetRow, asset_id).name = name

    def move_asset(self, asset_id: UUID, kit_id: UUID) -> None:
        """Another kit."""
        self._session.get_one(AssetRow, asset_id).kit_id = kit_id

    def remove_asset(self, asset_id: UUID) -> None:
        """The asset and its tags, gone."""
        for tag in self._session.scalars(select(TagRow).filter_by(asset_id=asset_id)):
            self._session.delete(tag)
        self._session.flush()
        self._session.delete(self._session.get_one(AssetRow, asset_id))

    def tag(self, asset_id: UUID, tags: Sequence[str]) -> list[str]:
        """Add tags; those that were new."""
        there = set(self._session.scalars(select(TagRow.tag).filter_by(asset_id=asset_id)))
        new = [tag for tag in dict.fromkeys(tags) if tag not in there]
        self._session.add_all(TagRow(asset_id=asset_id, tag=tag) for tag in new)
        return new

    def untag(self, asset_id: UUID, tags: Sequence[str]) -> list[str]:
        """Take tags away; those that were there."""
        found = self._session.scalars(select(TagRow).filter_by(asset_id=asset_id).where(TagRow.tag.in_(tags))).all()
        for row in found:
            self._session.delete(row)
        return sorted(row.tag for row in found)


class Tokens:
    """What `core.actions.Tokens` asks for."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_token(
        self, *, id: UUID, actor: str, digest: str, label: str, created_at: datetime, expires_at: datetime
    ) -> None:
        """A new token."""
        self._session.add(
            TokenRow(id=id, actor=actor, digest=digest, label=label, created_at=created_at, expires_at=expires_at)
        )

    def has_digest(self, digest: str) -> bool:
        """Whether a token has this digest."""
        return self._session.scalars(select(TokenRow.id).filter_by(digest=digest)).first() is not None

    def revoke_token(self, token_id: UUID, holder: str | None) -> bool:
        """Whether there was such a token, of the holder if one is given; now it is gone."""
        found = self._session.get(TokenRow, token_id)
        if found is None or (holder is not None and found.actor != holder):
            return False
        self._session.delete(found)
        return True


def tokens(session: Session) -> Tokens:
    """Provider of `tokens`."""
    return Tokens(session)


def repo(session: Session) -> Repo:
    """Provider of `repo`."""
    return Repo(session)
