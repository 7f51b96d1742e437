"""What needs an extra that is not there says so, with what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine

from actionbus.adapters.wiring import broker_for, store_for

ASKED: dict[str, tuple[Callable[[], object], str]] = {
    "elasticsearch": (
        lambda: store_for(create_engine("sqlite://"), where="http://localhost:9200"),
        r"Elasticsearch needs the extra: pip install 'actionbus\[elasticsearch\]'",
    ),
    "celery": (lambda: broker_for("redis://localhost"), r"a broker needs the extra: pip install 'actionbus\[celery\]'"),
}


@pytest.mark.parametrize("library", ASKED)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    ask, told = ASKED[library]
    gone = [each for each in sys.modules if each.startswith((library, f"actionbus.adapters.{library}"))]
    for name in gone:
        package, _, module = name.rpartition(".")
        if package:  # an import sets it, too: what comes after this test is to find the modules that it had
            monkeypatch.delattr(sys.modules[package], module, raising=False)
    for name in gone:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=told):
        ask()
