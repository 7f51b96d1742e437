"""What led to an action, and what it led to: a tree of bounded depth and width, one query for each level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from actionbus.core.journal import Journal
from actionbus.core.values.record import Record

MOST_ANCESTORS: Final = 20
MOST_NODES: Final = 500


@dataclass
class Node:
    """An action in the tree."""

    record: Record
    """Its outcome, if there is one; brief, and with personal values encrypted."""
    caused: list[Node] = field(default_factory=list)
    has_more: bool = False
    """Whether it caused others that are not shown."""


@dataclass(frozen=True)
class Tree:
    """An action's causes, the first of them first, and itself with what it caused."""

    ancestors: list[Record]
    has_more_ancestors: bool
    root: Node


def tree(journal: Journal, action_id: UUID, *, depth: int, width: int) -> Tree:
    """Of an action on record; below it so many levels, in each node so many children, and 500 nodes in all."""
    records = journal.of_action(action_id, opened=False)
    ancestors = _ancestors(journal, records[-1].cause_id)
    root = Node(records[-1])
    level, left = {root.record.action_id: root}, MOST_NODES
    for deep in range(depth + 1):
        if not level:
            break
        children = journal.caused_by(list(level), 0 if deep == depth else width)
        below: dict[UUID, Node] = {}
        for cause, (found, has_more) in children.items():
            shown = [Node(record) for record in found[:left]]
            level[cause].caused, level[cause].has_more = shown, has_more or len(shown) < len(found)
            below |= {node.record.action_id: node for node in shown}
            left -= len(shown)
        level = below
    has_more = len(ancestors) > MOST_ANCESTORS
    return Tree(ancestors[:MOST_ANCESTORS][::-1], has_more, root)


def records_of(journal: Journal, action_id: UUID) -> tuple[list[Record], bool]:
    """The records of an action on record and of those it caused, at any depth, oldest first; whether there are more.

    Of 500 actions at most.
    """
    root = tree(journal, action_id, depth=MOST_NODES, width=MOST_NODES).root
    found: list[Record] = []
    nodes, has_more = [root], False
    while nodes:
        node = nodes.pop()
        found += journal.of_action(node.record.action_id)
        has_more = has_more or node.has_more
        nodes += node.caused
    return sorted(found, key=lambda each: each.position), has_more


def _ancestors(journal: Journal, cause: UUID | None) -> list[Record]:
    """The cause, its cause, and so on."""
    found: list[Record] = []
    seen: set[UUID] = set()
    while cause is not None and cause not in seen and len(found) <= MOST_ANCESTORS:
        seen.add(cause)
        records = journal.of_action(cause, opened=False)
        if not records:
            break
        found.append(records[-1])
        cause = records[-1].cause_id
    return found
