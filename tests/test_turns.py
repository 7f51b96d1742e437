"""Who takes turns of the databases, and who does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.turns import DATABASES, those_in_turn

OTHERS = {"test_words[sqlite+embedded]", "test_words[postgresql+embedded]", "test_one[sqlite-a]", "test_plain"}
VALUES = {f"test_values[{url}-{value}]" for url in DATABASES for value in "abc"}
ALONE = {f"test_alone[{url}]" for url in DATABASES}


@pytest.fixture
def names(folder: str) -> set[str]:
    """What is to run of these tests, in a folder."""
    items: Any = [
        SimpleNamespace(name=name, nodeid=f"{folder}/test_some.py::{name}") for name in sorted(OTHERS | VALUES | ALONE)
    ]
    return {item.name for item in those_in_turn(items)}


@pytest.mark.parametrize("folder", ["tests/core/storage", "tests/core/history/told"])
def test_where_databases_differ_all_runs_on_both(names: set[str]) -> None:
    assert names == OTHERS | VALUES | ALONE


@pytest.mark.parametrize("folder", ["tests/core/gateway", "tests/adapters/http"])
def test_elsewhere_each_value_is_taken_once_and_each_database_is_met(names: set[str], folder: str) -> None:
    assert names >= OTHERS
    assert sorted(name[-2] for name in names & VALUES) == ["a", "b", "c"]
    assert {name.partition("[")[2].partition("-")[0] for name in names & VALUES} == set(DATABASES)
    assert len(names & ALONE) == (1 if "adapters" in folder else 2)
