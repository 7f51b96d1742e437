"""Gate: whether a request may come from where it comes from. Asked by frameworks' adapters before anybody is let in.

A browser sends a cookie, or nothing at all where nobody is asked who he is, along with what *any* page makes it send.
Such requests run an action only if our own pages, or pages that are named, sent them. And where nobody is asked, a name
that an attacker lets point at us (DNS rebinding) makes his page one of ours: so the name must be one that we know.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from actionbus.adapters.http.refusals import CrossSite, Misdirected, UnsupportedType
from actionbus.adapters.http.request import Request

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SENT_BY_ITSELF: Final = frozenset({"", "basic", "digest", "negotiate", "ntlm"})
"""Kinds of `Authorization` that a browser adds without being asked. The others only a page's own code can add, which
takes the consent of ours (CORS) if the page is another site's."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:,\s/@]+)(?::[0-9]{1,5})?")


class Gate:
    """`asks` says whether requests must tell who sends them. `hosts` are names that requests may be sent to: `*` for
    any, `.example.org` for all below. Without it, any name if requests are asked who sends them, else `localhost`;
    an address may always be used. `origins` are pages of other sites that may send requests, such as
    `https://app.example.org`.
    """

    def __init__(self, *, asks: bool, hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self._asks = asks
        known = [host.lower().rstrip(".") for host in hosts] or (["*"] if asks else ["localhost", ".localhost"])
        self._hosts = frozenset(known)
        self._ends = tuple(host for host in known if host.startswith("."))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def admit(self, request: Request) -> None:
        """Raises Misdirected, or CrossSite for what by its method would change something."""
        self.check_host(request)
        if request.method not in _SAFE:
            self.check_page(request)

    def check_page(self, request: Request) -> None:
        """Asked before an action runs, for a view may run one whatever the method. Raises CrossSite."""
        if self._is_ambient(request) and not self._is_ours(request):
            raise CrossSite("a page of another site may not run actions here; allow its origin if it should")

    def check_host(self, request: Request) -> None:
        """Let a request pass that is for this host. Raises Misdirected."""
        if "*" in self._hosts:
            return
        found = _HOST.fullmatch(request.header("Host").strip())
        name = found[1].lower().rstrip(".") if found else ""
        if not (name and (name in self._hosts or name.endswith(self._ends) or _is_address(name))):
            raise Misdirected("this host is not one that is served here; add it to the allowed hosts if it should be")

    def check_type(self, request: Request) -> None:
        """A form of another site can send any body, but not as JSON. Raises UnsupportedType."""
        if self._is_ambient(request) and not request.header("Content-Type"):
            raise UnsupportedType("send the arguments as application/json")

    def _is_ambient(self, request: Request) -> bool:
        """Whether a browser would send it so by itself, in its user's name, whoever made it do so."""
        return not self._asks or request.header("Authorization").partition(" ")[0].lower() in _SENT_BY_ITSELF

    def _is_ours(self, request: Request) -> bool:
        """Browsers say where a request comes from, in one header or both; what is no browser says nothing."""
        origin = request.header("Origin").lower()
        if origin in self._origins and origin:
            return True
        if site := request.header("Sec-Fetch-Site"):
            return site in ("same-origin", "none")
        return not origin or origin.partition("://")[2] == request.header("Host").lower()


def _is_address(name: str) -> bool:
    """A name can be made to point anywhere; an address is where it is."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
