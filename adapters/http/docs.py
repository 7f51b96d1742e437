"""The OpenAPI document at /openapi.json, and a page to try it from at /docs (Swagger UI, served from here)."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

import swagger_ui

from actionbus.adapters.http.answer import Answer
from actionbus.adapters.http.openapi import document
from actionbus.core import Bus
from actionbus.core.values.payload import dumps

_SWAGGER: Final = Path(swagger_ui.__file__).parent / "static"
_SERVED: Final = {
    "swagger-ui.css": _SWAGGER / "swagger-ui.css",
    "swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
    "docs.js": Path(__file__).with_name("docs.js"),
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
</head>
<body>
<form id="who" class="swagger-ui" hidden>
<p>This API is shown to those who may use it. <span id="refused" hidden><b>This token was not accepted.</b></span></p>
<label>Token <input id="token" type="password" autocomplete="off" autofocus></label> <button>Show</button>
</form>
<div id="page" data-document="{root}/openapi.json"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script src="{root}/docs/docs.js"></script>
</body>
</html>
"""
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles inline; no script does."""


class Docs:
    """The document, which tells what is set up here; and the page, which tells nothing by itself."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._made: dict[str, bytes] = {}

    def document(self, root: str) -> Answer:
        """The OpenAPI document of the API mounted at `root`."""
        key = root
        if key not in self._made:
            self._made[key] = dumps(document(self._bus, root)).encode()
        return Answer(200, self._made[key])

    def page(self, root: str) -> Answer:
        """The page from which requests are tried."""
        text = _PAGE.format(title=escape(self._bus.application.name), root=escape(root))
        return Answer(200, text.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})

    def file(self, name: str) -> Path | None:
        """A file that the page needs, or None if there is no such."""
        return _SERVED.get(name)
