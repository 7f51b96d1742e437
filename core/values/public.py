"""`public`: says of a class that applications import it from `actionbus`, or from its `projections` or `replay`."""

from __future__ import annotations

import inspect
from typing import Final, ForwardRef, TypeVar

Class = TypeVar("Class", bound=type)
_PARTS: Final = ("projections", "replay")
"""Of `actionbus`, with public names of their own."""


def public(found: Class) -> Class:
    """Errors, records and pickles name the class by where it is imported from, whatever file it is written in.

    What its annotations name is looked up in that file all the same (`typing.get_type_hints`).
    """
    where, annotations = found.__module__, inspect.get_annotations(found)
    found.__annotations__ = {name: _looked_up_in(where, each) for name, each in annotations.items()}
    part = where.split(".")[1]
    found.__module__ = f"actionbus.{part}" if part in _PARTS else "actionbus"
    return found


def _looked_up_in(module: str, annotation: object) -> object:
    text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    return ForwardRef(text, is_class=True, module=module) if isinstance(text, str) else annotation
