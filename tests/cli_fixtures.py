"""The command line, run in the tests' own process."""

from __future__ import annotations

import io
import sys

import pytest
from sqlalchemy.engine import URL

from actionbus.adapters.cli.main import main
from tests.conftest import prepared
from tests.helpers import Done, Run, environment


@pytest.fixture
def run(url: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `actionbus …` on a prepared database, in this process."""
    prepared(url)
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, stdin: str | None = None, code: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["actionbus", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin or ""))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == code, printed
        assert "\x1b[" not in printed.out + printed.err, "no colour codes into a pipe"
        return Done(printed.out, printed.err)

    return call
