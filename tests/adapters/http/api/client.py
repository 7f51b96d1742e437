"""A client of the API with a token, and what the journal has meanwhile."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient


class Client:
    """A client with a token."""

    def __init__(self, app: Flask, token: str | None) -> None:
        self.http: FlaskClient = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = self.headers | options.pop("headers", {})
        if "data" not in options:
            options["json"] = body if body is not None else {}
        return self.http.post(path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(path, headers=self.headers | options.pop("headers", {}), **options)
