"""The library's tables as SQLAlchemy models; read and written through `adapters.library.repo` alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The library's metadata."""


class KitRow(Base):
    """A kit. Its name is unique among its owner's."""

    __tablename__ = "kits"
    __table_args__ = (UniqueConstraint("owner", "name", name="kits_name_per_owner"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    owner: Mapped[str] = mapped_column(String(200))
    description: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class RoleRow(Base):
    """What somebody other than the owner may do with a kit: `viewer` or `editor`."""

    __tablename__ = "kit_roles"
    kit_id: Mapped[UUID] = mapped_column(ForeignKey("kits.id"), primary_key=True)
    member: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))


class AssetRow(Base):
    """An asset. Its name is unique in its kit."""

    __tablename__ = "assets"
    __table_args__ = (UniqueConstraint("kit_id", "name", name="assets_name_per_kit"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kit_id: Mapped[UUID] = mapped_column(ForeignKey("kits.id"))
    name: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(20))
    content: Mapped[str]
    names: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class TagRow(Base):
    """One tag of one asset."""

    __tablename__ = "asset_tags"
    asset_id: Mapped[UUID] = mapped_column(ForeignKey("assets.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(60), primary_key=True)


class TokenRow(Base):
    """An API token: who holds it acts as `actor` until it expires. The token itself is not kept."""

    __tablename__ = "api_tokens"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True, info={"sensitive": True})
    label: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
