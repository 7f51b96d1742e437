"""Why a request is refused before any action runs; `adapters.http.problems` makes problem responses of these."""

from __future__ import annotations

from typing import Any, ClassVar


class Refused(Exception):
    """Base: `status`, the `kind` that its problem's type ends with, its title; `errors` says which part."""

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "malformed"
    title: ClassVar[str] = "Malformed request"

    def __init__(self, detail: str, errors: dict[str, Any] | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class Malformed(Refused):
    """The request cannot be read."""


class Unauthorized(Refused):
    """The request does not say who sends it, or not so that it can be believed."""

    status, kind, title = 401, "unauthorized", "Unauthorized"

    def __init__(self) -> None:
        super().__init__("send a valid token: Authorization: Bearer …")


class NotFound(Refused):
    """There is no such thing, or it is not for this caller, who is not told which."""

    status, kind, title = 404, "not-found", "Not found"


class TooLarge(Refused):
    """The body is larger than any that is accepted."""

    status, kind, title = 413, "too-large", "Too large"


class UnsupportedType(Refused):
    """The body is of another kind than JSON."""

    status, kind, title = 415, "unsupported-media-type", "Unsupported media type"
