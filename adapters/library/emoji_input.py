"""Real input for the library: the whole Unicode emoji set, from the PyPI package `emoji`, as actions to run.

`actionbus demo` runs them; the tests do too. Kits are the Emoji versions. Ana owns all; Ben edits the even ones and
views the odd ones; Cleo views; Dora is a stranger. All four add what they find, so some are denied; the set lists
emoji in several spellings under one name, so some are rejected. Each adds all of his at once, so that they run in
chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CURATOR = "ana"
_LANGUAGES = ("de", "es", "fr", "it", "ja", "ko", "pt", "ru", "tr", "zh")
_TURNS = ("ana", "ben", "ana", "ben", "ana", "ben", "ana", "cleo", "ben", "dora")


@dataclass(frozen=True, slots=True)
class ImportStep:
    """One action: who runs what. `kit` is the name of the kit whose id goes in as `kit_id`."""

    actor: str
    action: str
    arguments: dict[str, Any]
    kit: str | None = None


def kit_name(version: float) -> str:
    """`Emoji 15.1`."""
    return f"Emoji {version:g}"


def steps(most: int | None = None) -> list[ImportStep]:
    """Every step, in order; of what is added, the first `most` alone. Raises ImportError, naming the extra, without
    the package.
    """
    try:
        import emoji
    except ImportError:
        raise ImportError("the demo needs the emoji set: pip install 'actionbus[library]'") from None
    emoji.config.load_language([*_LANGUAGES, "en"])
    data: dict[str, dict[str, Any]] = emoji.EMOJI_DATA
    versions = sorted({float(each["E"]) for each in data.values()})
    added = [*_kits(versions), *sorted(_assets(data), key=lambda step: step.actor)]
    return [*added[:most], *_afterwards(data)]


def _kits(versions: list[float]) -> Iterator[ImportStep]:
    for number, version in enumerate(versions):
        name = kit_name(version)
        yield ImportStep(CURATOR, "create_kit", {"name": name, "description": f"New in version {version:g} of the set"})
        yield ImportStep(CURATOR, "share_kit", {"member": "ben", "role": "viewer" if number % 2 else "editor"}, name)
        yield ImportStep(CURATOR, "share_kit", {"member": "cleo"}, name)


def _assets(data: dict[str, dict[str, Any]]) -> Iterator[ImportStep]:
    for number, (symbol, about) in enumerate(data.items()):
        yield ImportStep(
            _TURNS[number % len(_TURNS)],
            "add_asset",
            {
                "name": _plain(about["en"]),
                "content": symbol,
                "names": {code: _plain(about[code]) for code in _LANGUAGES if code in about},
                "tags": sorted({_plain(alias) for alias in about.get("alias", [])}),
            },
            kit_name(float(about["E"])),
        )


def _afterwards(data: dict[str, dict[str, Any]]) -> Iterator[ImportStep]:
    versions = sorted({float(each["E"]) for each in data.values()})
    yield ImportStep("dora", "rename_kit", {"name": "Mine now"}, kit_name(versions[0]))
    yield ImportStep("ana", "create_kit", {"name": kit_name(versions[0])})
    yield ImportStep("ana", "rename_kit", {"name": "The first emoji"}, kit_name(versions[0]))
    yield ImportStep("ana", "tag_found", {"words": "grinning", "tags": ["smile"]})  # there is nothing to search in yet
    yield ImportStep("cleo", "export_kit", {"file": "first.json"}, kit_name(versions[0]))
    yield ImportStep("ana", "add_asset", {"name": "", "kind": "smell", "colour": "red"}, kit_name(versions[-1]))


def _plain(name: str) -> str:
    return name.strip(":").replace("_", " ")[:60]
