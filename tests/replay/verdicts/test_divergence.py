"""Planted bugs are found, with action and field; harmless refactorings are not taken for any."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay import Replayer, Step
from tests.replay.conftest import MakeCopy, live, open_bus
from tests.replay.copies import Copy

ALL = ("succeeded", "rejected", "denied", "failed")
Change = tuple[str, str, str]


@pytest.fixture
def lived(url: URL, make_copy: MakeCopy) -> Iterator[Bus]:
    """A bus whose journal has a history."""
    with open_bus(make_copy().application(), url) as bus:
        live(bus)
        yield bus


def replayed(bus: Bus, copy: Copy, sandbox: URL | str) -> list[Step]:
    with Replayer(bus.journal, copy.application(), sandbox) as replayer:
        return list(replayer.verify(statuses=ALL))


def test_history_reproduces_itself(lived: Bus, make_copy: MakeCopy, sandbox_url: URL | str) -> None:
    steps = replayed(lived, make_copy(), sandbox_url)
    assert [(step, step.differences) for step in steps if step.verdict != "same"] == []
    statuses = {step.record.status for step in steps}
    assert statuses == set(ALL)
    top_level = [record for record in lived.journal.read(kind="outcome") if record.cause_id is None]
    assert [step.record for step in steps] == top_level


BUGS: dict[str, tuple[Change, str]] = {
    "wrong result": (("share_kit", '"role": self.args.role}', '"role": "viewer"}'), "result.role"),
    "missing row": (("add_asset", "**self.args)", '**{**self.args, "tags": self.args.tags[1:]})'), "asset_tags["),
    "extra row": (
        ("rename_asset", "        return {", '        self.repo.tag(self.args.asset_id, ["seen"])\n        return {'),
        "asset_tags[",
    ),
    "changed error": (("create_kit", "you have a kit of that name already", "taken"), "error.errors.name"),
    "swallowed exception": (
        (
            "publish_kit",
            '        self.storage.put(f"{self.args.file}.manifest", str(len(assets)))\n',
            '        try:\n            self.storage.put(f"{self.args.file}.manifest", str(len(assets)))\n'
            "        except ValueError:\n            return {}\n",
        ),
        "status",
    ),
    "other call order": (
        (
            "publish_kit",
            '        self.storage.put(f"{self.args.file}.manifest", str(len(assets)))\n'
            '        where = self.storage.put(self.args.file, ",".join(asset["name"] for asset in assets))\n',
            '        where = self.storage.put(self.args.file, ",".join(asset["name"] for asset in assets))\n'
            '        self.storage.put(f"{self.args.file}.manifest", str(len(assets)))\n',
        ),
        "calls[0].args",
    ),
    "clock read from datetime.now()": (
        (
            "create_kit",
            "created_at=self.clock.now()",
            'created_at=__import__("datetime").datetime.now(__import__("datetime").UTC)',
        ),
        "kits[",
    ),
    "random without the dependency": (("publish_kit", "self.random.random()", "random.random()"), "result.cover"),
    "iteration over a set": (
        ("publish_kit", "list(dict.fromkeys(self.args.tags))", "list(set(self.args.tags))"),
        "result.tags",
    ),
    "a dropped validation": (
        ("add_asset", "elif self.repo.asset_named(self.args.kit_id, self.args.name):", "elif False:"),
        "status",
    ),
    "a permission widened": (("rename_kit", 'permission = "kit:own"', 'permission = "kit:edit"'), "status"),
    "a changed default": (("add_asset", 'default="icon"', 'default="photo"'), "arguments.kind"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(lived: Bus, make_copy: MakeCopy, sandbox_url: URL | str, bug: str) -> None:
    copy = make_copy()
    (action, old, new), field = BUGS[bug]
    copy.change(action, old, new)
    found = [step for step in replayed(lived, copy, sandbox_url) if step.verdict == "divergent"]
    assert found, "the bug was not found"
    first = found[0]
    names = {each.action or first.record.action for each in first.differences}
    assert action in names
    assert any(each.field.startswith(field) for each in first.differences), first.differences
    assert {step.record.action for step in found} <= {action, "duplicate_kit"}, "nobody else is accused"


REFACTORINGS: dict[str, list[Change]] = {
    "another name for a variable": [("create_kit", "kit_id = self.ids.uuid()\n", "new = kit_id = self.ids.uuid()\n")],
    "keys of the result in another order": [
        (
            "share_kit",
            '{"kit_id": self.args.kit_id, "member": self.args.member, "role": self.args.role}',
            '{"role": self.args.role, "member": self.args.member, "kit_id": self.args.kit_id}',
        )
    ],
    "arguments declared in another order": [
        ("tag_asset", '        "asset_id": Arg(UUID, required=True),\n', ""),
        ("tag_asset", '        "tags": Arg(', '        "asset_id": Arg(UUID, required=True),\n        "tags": Arg('),
    ],
    "one more look at the database": [
        (
            "rename_asset",
            "    def execute",
            "    def look(self) -> None:\n        self.repo.asset(self.args.asset_id)\n\n    def execute",
        ),
        ("rename_asset", "        self.repo.rename_asset(", "        self.look()\n        self.repo.rename_asset("),
    ],
    "rows inserted in another order": [
        ("add_asset", "**self.args)", '**{**self.args, "tags": sorted(self.args.tags, reverse=True)})')
    ],
    "a helper method": [
        (
            "move_asset",
            "        self.repo.move_asset(self.args.asset_id, self.args.kit_id)\n",
            "        self._move()\n",
        ),
        (
            "move_asset",
            "    def execute",
            "    def _move(self) -> None:\n        self.repo.move_asset(self.args.asset_id, "
            "self.args.kit_id)\n\n    def execute",
        ),
    ],
    "ids and clock taken as local names": [
        (
            "add_asset",
            "        asset_id = self.ids.uuid()\n",
            "        ids, clock = self.ids, self.clock\n        asset_id = ids.uuid()\n",
        ),
        ("add_asset", "created_at=self.clock.now()", "created_at=clock.now()"),
    ],
    "log lines": [
        ("rename_kit", 'requires = ("repo",)', 'requires = ("repo", "logger")'),
        (
            "rename_kit",
            "    def execute(self) -> dict[str, Any]:\n",
            '    def execute(self) -> dict[str, Any]:\n        self.logger.info("renaming")\n',
        ),
    ],
    "a dependency that is not used": [
        ("unshare_kit", 'requires = ("repo",)', 'requires = ("repo", "storage", "random", "ids")')
    ],
    "a nested action's result read in another way": [("duplicate_kit", '.result["kit_id"]', '.result.get("kit_id")')],
    "rows added by another method": [
        (
            "publish_kit",
            "self.session.add(Visit(what=self.args.file))",
            "self.session.add_all([Visit(what=self.args.file)])",
        ),
        (
            "publish_kit",
            'insert(Visit).values([{"what": "a"}, {"what": "b"}])',
            'insert(Visit).values([{"what": "b"}, {"what": "a"}])',
        ),
    ],
    "an error raised from elsewhere": [
        (
            "unshare_kit",
            '            self.reject("member", "has no role in this kit")\n',
            "            self._refuse()\n",
        ),
        (
            "unshare_kit",
            "    def execute",
            '    def _refuse(self) -> None:\n        self.reject("member", "has no role in this kit")\n\n    def execute',
        ),
    ],
}


@pytest.mark.parametrize("name", REFACTORINGS)
def test_a_refactoring_is_no_divergence(lived: Bus, make_copy: MakeCopy, sandbox_url: URL | str, name: str) -> None:
    copy = make_copy()
    for change in REFACTORINGS[name]:
        copy.change(*change)
    steps = replayed(lived, copy, sandbox_url)
    assert [(step, step.differences) for step in steps if step.verdict != "same"] == []
