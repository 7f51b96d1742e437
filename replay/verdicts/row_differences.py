"""Which rows an action left other than history has them, column by column. Used by `replay.verdicts.divergence`.

Both sides were recorded by the same triggers, so that equal values have equal forms. Of a column that did not exist
then nothing is told as long as it holds its default, or what it held; one that there is no longer is the schema's
affair. Nor does the database's own clock count, where each side holds the time at which it ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from actionbus.core.history.decoding import shown
from actionbus.core.secrecy.scrubbing import SCRUBBED
from actionbus.core.values import payload
from actionbus.core.values.change import reads_same
from actionbus.replay.past.nets import Net, are_identical
from actionbus.replay.sandbox.clocks import Clocks

NOTHING = "(absent)"
Told = tuple[str, Any, Any]
"""Where, what was recorded, what came now."""


IsDefault = Callable[[str, str, Any], bool]
"""Given a table, a column and a value."""


class Compares(Protocol):
    """What is to be compared."""

    @property
    def tables(self) -> Collection[str]:
        """Those that the sandbox has, and history knew."""

    @property
    def is_default(self) -> IsDefault:
        """Whether a column that history did not have holds its default."""


def row_differences(recorded: Sequence[Net], now: Sequence[Net], how: Compares, clocks: Clocks) -> Iterator[Told]:
    """All differences between the recorded rows and those of the re-run."""
    was = [each for each in recorded if each.table in how.tables]
    came = [each for each in now if each.table in how.tables]
    if are_identical(was, came):
        return
    for name, one, other in _of_keyed(was, came):
        yield from _of_row(name, one, other, clocks)
        yield from _of_new_columns(name, one, other, how.is_default)
    yield from _of_keyless(was, came, clocks)


def _of_keyed(was: Sequence[Net], came: Sequence[Net]) -> Iterator[tuple[str, Net | None, Net | None]]:
    """Each row, by its name, on both sides."""
    sides: dict[Any, list[Net | None]] = {}
    for place, nets in enumerate((was, came)):
        for net in nets:
            if net.shape.key:
                sides.setdefault((net.table, str(net.key)), [None, None])[place] = net
    for one, other in sides.values():
        named = one or other
        assert named is not None
        yield named.name(), one, other


def _of_new_columns(name: str, one: Net | None, other: Net | None, is_default: IsDefault) -> Iterator[Told]:
    if one is None or one.after is None or other is None or other.after is None:
        return
    values = other.after.values()
    before = {} if other.before is None else other.before.values()
    for column in values.keys() - one.after.values().keys():
        value = values[column]
        held = column in before and reads_same(before[column], value)
        if not held and not is_default(other.table, column, value):
            yield f"{name}.{column}", NOTHING, _json(value)


def _of_row(name: str, one: Net | None, other: Net | None, clocks: Clocks) -> Iterator[Told]:
    """What differs in what became of one row: that it was changed at all, or a column of it."""
    if one is None or other is None:
        written = one or other
        assert written is not None
        if not written.is_idle() and not _is_only_clock(one, clocks.then) and not _is_only_clock(other, clocks.now):
            yield name, _told(one), _told(other)
        return
    if one.after is None or other.after is None:
        if one.after is not other.after:
            yield name, _told(one), _told(other)
        return
    then, now = one.after.values(), other.after.values()
    for column in then.keys() & now.keys():
        values = then[column], now[column]
        if not reads_same(*values) and not clocks.explain(*values) and not is_scrubbed(*values):
            yield f"{name}.{column}", _json(values[0]), _json(values[1])


def _is_only_clock(net: Net | None, is_then: Any) -> bool:
    """Whether a row was changed to what it was, but for the database's clock."""
    if net is None or net.before is None or net.after is None:
        return False
    before, after = net.before.values(), net.after.values()
    changed = [name for name in after if name not in before or not reads_same(before[name], after[name])]
    return all(name in before and is_then(after[name]) for name in changed)


def _of_keyless(was: Sequence[Net], came: Sequence[Net], clocks: Clocks) -> Iterator[Told]:
    left: list[list[Net]] = [[], []]
    for place, nets in enumerate((was, came)):
        left[place] = [each for each in nets if not each.shape.key]
    for net in list(left[0]):
        alike = next((each for each in left[1] if _is_alike(net, each, clocks)), None)
        if alike is not None:
            left[0].remove(net)
            left[1].remove(alike)
    for number in range(max(map(len, left))):
        one, other = (nets[number] if number < len(nets) else None for nets in left)
        named = one or other
        assert named is not None
        yield named.name(), _told(one), _told(other)


def _is_alike(one: Net, other: Net, clocks: Clocks) -> bool:
    if one.table != other.table or (one.after is None) != (other.after is None):
        return False
    held, others = one.after or one.before, other.after or other.before
    assert held is not None
    assert others is not None
    then, now = held.values(), others.values()
    return all(
        reads_same(then[n], now[n]) or clocks.explain(then[n], now[n]) or is_scrubbed(then[n], now[n])
        for n in then.keys() & now.keys()
    )


def is_scrubbed(recorded: Any, now: Any) -> bool:
    """Whether one of two texts has marks in place of a secret, and the other may be the same with it."""
    if not isinstance(recorded, str) or not isinstance(now, str):
        return False
    for marked, whole in ((recorded, now), (now, recorded)):
        if SCRUBBED in marked:
            pattern = ".*".join(re.escape(part) for part in marked.split(SCRUBBED))
            return re.fullmatch(pattern, whole, re.DOTALL) is not None
    return False


def _told(net: Net | None) -> Any:
    """What became of a row, as JSON."""
    if net is None:
        return NOTHING
    if net.after is None:
        return "deleted"
    changed = net.after.values()
    if net.before is not None:
        before = net.before.values()
        changed = {name: value for name, value in changed.items() if not reads_same(before.get(name), value)}
    return {name: payload.loads(payload.dumps(_json(value))) for name, value in changed.items()}


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(each) for each in value]
    told = shown(value)
    return told if isinstance(told, (str, int, float, bool, dict, type(None))) else str(told)
