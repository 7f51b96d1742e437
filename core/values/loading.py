"""What an option names as `module:attribute`; used by whatever takes such an option."""

from __future__ import annotations

import importlib
import sys
import traceback
from operator import attrgetter
from pathlib import Path
from typing import Any


def load(path: str, what: str, *, from_here: bool = True) -> Any:
    """The object at `module:attribute`, the working directory's modules included with `from_here`.

    Raises ValueError, which says what is wrong with the path, or what the module raised when imported, and where;
    `what` is what ought to be there, as "application". Errors of ours, which say all, it raises as they are.
    """
    name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise ValueError(f"{path!r} is not of the form module:attribute, such as shop.app:app; a {what} is wanted")
    here = str(Path.cwd())
    if from_here and here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if type(error).__module__.partition(".")[0] == "actionbus":  # an error that says all, or a signal's exit
            raise
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{path!r}: there is no module {error.name!r} (searched from {here})") from None
        raise ValueError(f"{path!r} cannot be imported: {type(error).__name__}: {error}{_place(error)}") from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise ValueError(f"{path!r}: the module has no {attribute!r}") from None


def _place(error: BaseException) -> str:
    """Where it was raised, if it was in a file and not in what imports files."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") != __name__ and not frame.f_code.co_filename.startswith("<")
    ]
    ours = [each for each in frames if "importlib" not in each[0]]
    return f" ({ours[-1][0]}, line {ours[-1][1]})" if ours else ""
