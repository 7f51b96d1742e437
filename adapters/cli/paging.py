"""What is long goes through a pager where somebody looks at it, as git's does. Used by `log`, `show` and `history`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper

import click


class _PagedText(TextIOWrapper):
    """Into the pager, which writes to a terminal: so the width of lines and colours are those of a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def page(*, unless: bool = False) -> None:
    """Have a pager show what the present command prints from now on: PAGER, else `less`; `PAGER=cat` does without.

    What fits on one screen is printed as ever, and so is everything into a pipe, or where there is no pager.
    """
    words = shlex.split(os.environ.get("PAGER", "less"))
    if not unless and sys.stdout.isatty() and words and words != ["cat"] and shutil.which(words[0]):
        click.get_current_context().with_resource(_paged(words))


@contextmanager
def _paged(words: list[str]) -> Iterator[None]:
    pager = subprocess.Popen(words, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    assert pager.stdin is not None
    before = sys.stdout, sys.stderr
    # Notes beside the answer would be written across the pager's screen.
    sys.stdout = sys.stderr = shown = _PagedText(pager.stdin, encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        with suppress(BrokenPipeError):  # its user has seen enough
            shown.close()
        while pager.poll() is None:
            with suppress(KeyboardInterrupt):  # which is the pager's, as long as it is there
                pager.wait()
