"""The OpenAPI document at /openapi.json, and a page to try it from at /docs (Swagger UI, served from here)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import swagger_ui
from flask import Blueprint, Response, send_from_directory, url_for
from markupsafe import escape

from adapters.flask.openapi import document
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


def add_docs(api: Blueprint, bus: Bus) -> None:
    """Add the routes. The document is the same for all, and tells no more than the application's declaration."""
    made: dict[str, str] = {}

    def openapi() -> Response:
        prefix = url_for("actionbus.openapi").removesuffix("/openapi.json")
        if prefix not in made:
            made[prefix] = json.dumps(document(bus, prefix))
        return Response(made[prefix], content_type="application/json")

    def page() -> Response:
        told = {"title": escape(bus.application.name), "document": url_for("actionbus.openapi")}
        files: dict[str, Any] = {name: url_for("actionbus.docs_file", name=name) for name in _SERVED}
        text = _PAGE.format(css=files[_SERVED[0]], script=files[_SERVED[1]], **told)
        return Response(text, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})

    def docs_file(name: str) -> Response:
        return send_from_directory(_FILES, name if name in _SERVED else "", max_age=86_400)

    api.add_url_rule("/openapi.json", "openapi", openapi)
    api.add_url_rule("/docs", "docs", page)
    api.add_url_rule("/docs/<name>", "docs_file", docs_file)
