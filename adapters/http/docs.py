"""The OpenAPI document at /openapi.json, and a page to try it from at /docs (Swagger UI, served from here)."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Final

import swagger_ui

from adapters.http.answer import Answer
from adapters.http.openapi import document
from core import Bus

_FILES: Final = Path(swagger_ui.__file__).parent / "static"
_SERVED: Final = ("swagger-ui.css", "swagger-ui-bundle.js")
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{css}">
</head>
<body>
<div id="page"></div>
<script src="{script}"></script>
<script>
SwaggerUIBundle({{url: "{document}", dom_id: "#page", persistAuthorization: true, docExpansion: "list",
  tryItOutEnabled: true, validatorUrl: null}});
</script>
</body>
</html>
"""
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'"
)


class Docs:
    """The document, the same for all and no more than the application's declaration tells; and the page."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._made: dict[str, bytes] = {}

    def document(self, root: str) -> Answer:
        """The OpenAPI document of the API mounted at `root`."""
        if root not in self._made:
            self._made[root] = json.dumps(document(self._bus, root)).encode()
        return Answer(200, self._made[root])

    def page(self, root: str) -> Answer:
        """The page."""
        css, script = (f"{root}/docs/{name}" for name in _SERVED)
        title, where = escape(self._bus.application.name), f"{root}/openapi.json"
        text = _PAGE.format(title=title, css=css, script=script, document=where)
        return Answer(200, text.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})

    def file(self, name: str) -> Path | None:
        """A file that the page needs, or None if there is no such."""
        return _FILES / name if name in _SERVED else None
