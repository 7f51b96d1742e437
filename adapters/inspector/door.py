"""Door, who may look where the inspector is served by itself: whoever has the address that was printed, once.

The token of that address is exchanged for a cookie of this process's; then it opens no more. So what a browser keeps of
addresses, or a proxy's log, lets nobody in. Used by `actionbus inspect`.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from typing import Final

from flask import Response, request

from actionbus.adapters.http.origin import Gate
from actionbus.adapters.http.refusals import Refusal
from actionbus.adapters.http.request import Request
from actionbus.core import ActionRunner, Bus

_COOKIE: Final = "actionbus_inspector"


class NotLetIn(Refusal):
    """The browser has no cookie of this process."""

    status, kind, title = 401, "unauthorized", "Not let in"


class Door:
    """Lets in who brings the token; he is the operator, since he has the database anyway."""

    def __init__(self, bus: Bus, actor: str | None = None) -> None:
        self._bus, self._actor = bus, actor
        self._gate = Gate(asks=False)
        self._token, self._secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._lock, self._is_used = threading.Lock(), False

    @property
    def token(self) -> str:
        """What is to be in the printed address."""
        return self._token

    def admit(self) -> ActionRunner:
        """A runner for whoever looks. Raises NotLetIn, Misdirected or CrossSite."""
        asked = Request.of(request.method, request.path, request.headers.items(), (), "")
        self._gate.admit(asked)
        if not hmac.compare_digest(request.cookies.get(self._cookie(), "").encode(), self._secret.encode()):
            raise NotLetIn("open the address that `actionbus inspect` printed; it opens once, in one browser")
        return self._bus.runner(self._actor, context={"via": "inspector"}, operator=True)

    def enter(self) -> Response:
        """Exchange the token for the cookie. Raises NotLetIn or Misdirected."""
        self._gate.check_host(Request.of(request.method, request.path, request.headers.items(), (), ""))
        given = request.args.get("token", "").encode()
        with self._lock:
            if self._is_used or not hmac.compare_digest(given, self._token.encode()):
                raise NotLetIn("this address was used already, or was never printed; start `actionbus inspect` again")
            self._is_used = True
        response = Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        response.set_cookie(self._cookie(), self._secret, httponly=True, samesite="Strict", path="/")
        return response

    def _cookie(self) -> str:
        """Browsers send a host's cookies to all its ports: so each has a name of its own."""
        return f"{_COOKIE}_{request.environ.get('SERVER_PORT', '')}"
