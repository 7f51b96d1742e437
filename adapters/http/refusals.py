"""Why a request is refused before any action runs; `adapters.http.problems` makes problem responses of these."""

from __future__ import annotations

from typing import Any, ClassVar


class Refusal(Exception):
    """Base: `status`, the `kind` that its problem's type ends with, its title; `errors` says which part."""

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "malformed"
    title: ClassVar[str] = "Malformed request"
    retry: ClassVar[bool] = False
    """Whether the same request may be answered a little later."""

    def __init__(self, detail: str, errors: dict[str, Any] | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class Malformed(Refusal):
    """The request cannot be read."""


class Unauthorized(Refusal):
    """The request does not say who sends it, or not so that it can be believed."""

    status, kind, title = 401, "unauthorized", "Unauthorized"

    def __init__(self) -> None:
        super().__init__("send a valid token: Authorization: Bearer …")


class NotFound(Refusal):
    """There is no such thing, or it is not for this caller, who is not told which."""

    status, kind, title = 404, "not-found", "Not found"


class TooLarge(Refusal):
    """The body is larger than any that is accepted."""

    status, kind, title = 413, "too-large", "Too large"


class UnsupportedType(Refusal):
    """The body is of another kind than JSON."""

    status, kind, title = 415, "unsupported-media-type", "Unsupported media type"


class Misdirected(Refusal):
    """The request names a host that is not ours."""

    status, kind, title = 421, "misdirected", "Misdirected request"


class CrossSite(Refusal):
    """A page of another site sent the request, in the name of whoever looks at it."""

    status, kind, title = 403, "cross-site", "Sent by another site"


class Busy(Refusal):
    """So many wait already that one more would keep others from being served. Nothing was run."""

    status, kind, title, retry = 503, "busy", "Busy", True
