"""The entry point of the `actionbus` command, where the process is its own; `adapters.cli.apart` asks whether it is.

Light to import: the version and the help need no more.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import ExitStack

from actionbus.adapters.cli.main import main


class Process:
    """Whether this process may be confined, and whether it is the child."""

    may_fork = False
    is_child = False
    left: ExitStack | None = None
    """In the child: what is the parent's to clean up."""


def program() -> None:
    """The entry point of the `actionbus` command: this process is its own."""
    Process.may_fork = True
    code: int | str | None = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
        if not Process.is_child:
            raise
    except BaseException:
        if not Process.is_child:
            raise
        traceback.print_exc()
    finally:
        if Process.is_child:  # nothing of the parent's is to be cleaned up here
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1 if code else 0)
