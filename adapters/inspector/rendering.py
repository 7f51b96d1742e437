"""Pages as HTML: the templates of this folder, in an environment of their own, whatever an app around it has set.

Used by `inspector.site`, which knows the request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from actionbus.adapters.inspector import values

_HERE: Final = Path(__file__).parent
_STATIC: Final = _HERE / "static"
SERVED: Final = {
    "inspector.css": "text/css; charset=utf-8",
    "inspector.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of `static/`, with their types."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


@dataclass(frozen=True)
class Page:
    """What a view gives: a template and its values."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Goto:
    """What a view gives in place of a page: where to go."""

    path: str


@dataclass(frozen=True)
class Attachment:
    """What a view gives in place of a page: a file to be kept."""

    text: str
    content_type: str
    name: str


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(_HERE / "templates")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "brief": values.brief,
        "duration": values.duration,
        "gist": values.gist,
        "linked": values.linked,
        "moment": values.moment,
        "seen": values.seen,
        "shown": values.shown,
        "text_of": values.text_of,
        "withheld": values.withheld,
    }
    return made


def rendered(page: Page, **around: Any) -> bytes:
    """The page's bytes; what cannot be written in UTF-8 was shown by its number before."""
    text = _environment().get_template(page.template).render({**around, **page.values})
    return text.encode("utf-8", "backslashreplace")


@cache
def file_of(name: str) -> bytes:
    """A static file. Raises KeyError for one that is not served."""
    _ = SERVED[name]
    return (_STATIC / name).read_bytes()


@cache
def stamp() -> str:
    """What the addresses of static files carry, so that browsers keep them until they change."""
    return hashlib.sha256(b"".join(file_of(name) for name in SERVED)).hexdigest()[:12]
