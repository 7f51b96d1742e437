"""What an option names as `module:attribute`; used by whatever takes such an option."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any


def load(path: str, what: str, *, from_here: bool = True) -> Any:
    """The object at `module:attribute`, the working directory's modules included with `from_here`.

    Raises ValueError, which says what is wrong with the path; `what` is what ought to be there, as "application".
    What the module itself raises when it is imported, it raises.
    """
    name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise ValueError(f"{path!r} is not of the form module:attribute, such as shop.app:app; a {what} is wanted")
    here = str(Path.cwd())
    if from_here and here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{path!r}: there is no module {error.name!r} (searched from {here})") from None
    except ImportError as error:
        raise ValueError(f"{path!r} cannot be imported: {error}") from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise ValueError(f"{path!r}: the module has no {attribute!r}") from None
