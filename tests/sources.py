"""Which files and public modules there are, for tests that read sources."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import ROOT

FOLDERS = ("core", "projections", "replay", "adapters")
"""Packages of `actionbus`, each from a folder of the repository."""
PUBLIC = {
    "actionbus",
    "actionbus.projections",
    "actionbus.replay",
    *(f"actionbus.{p.stem}" for p in (ROOT / "actionbus").glob("*.py")),
}
"""What applications import from."""


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))
