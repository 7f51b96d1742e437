"""Which columns of a table never enter an image; asked by `history.postgresql` and `history.sqlite`.

What was withheld stays so until somebody names the column as one that may be recorded, and under whatever name: a
column that is renamed in the database, and not yet in the models, is not recorded under its new name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from actionbus.core.errors import ConfigurationError
from actionbus.core.history.shapes import Shape, TableWanted


def withheld_of(
    table: str,
    wanted: TableWanted,
    shapes: Sequence[Shape],
    present: Mapping[str, int | None],
    same: Callable[[str], str] = str,
) -> tuple[str, ...]:
    """The columns to withhold, by their present names, in their order.

    `shapes` are what the table was recorded under, latest last. `present` are its columns with their numbers, which
    stay when a name changes; None where the database has none, or others than that shape. `same` gives what two
    spellings of one name have in common. Raises ConfigurationError for a column to withhold that nobody knows.
    """
    names = {same(name): name for name in present}
    held = {same(each) for each in wanted.withheld}
    ever = {same(each) for shape in shapes for each in shape.withheld}
    if unknown := [each for each in wanted.withheld if same(each) not in names and same(each) not in ever]:
        raise ConfigurationError([f"{table} has no column {', '.join(sorted(unknown))}, which is to be withheld"])
    carried = _carried(shapes[-1], present, same) if shapes else set()
    return tuple(name for one, name in names.items() if one in held | (carried - {same(e) for e in wanted.recorded}))


def _carried(before: Shape, present: Mapping[str, int | None], same: Callable[[str], str]) -> set[str]:
    """What was withheld, by its present names. Where only names tell, each new column may be one that was renamed."""
    there = {same(name) for name in present}
    was = {same(each) for each in before.withheld}
    numbers = set(before.withheld_numbers)
    if numbers and None not in present.values():
        return was & there | {same(name) for name, number in present.items() if number in numbers}
    if was <= there:
        return was
    return was & there | (there - {same(each) for each in before.columns})
