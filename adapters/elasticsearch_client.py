"""Makes Elasticsearch's client as actionbus needs it, and errors of stores out of what it raises.

Called by ElasticsearchStore. Every request says `compatible-with=8`, so that one client serves servers of 8 and 9, and
none but a question about its health is sent to a server that has not shown that it is Elasticsearch: others create what
they are asked to before the client finds out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from actionbus.adapters.elasticsearch_bulk import BUSY, TOO_BUSY, NoRoom
from actionbus.adapters.elasticsearch_tls import advice_on, see_files
from actionbus.projections.errors import IndexMissing, StoreRefused, StoreUnavailable, StoreUnsuitable

try:
    from elastic_transport import HttpHeaders, Transport, TransportApiResponse
    from elasticsearch import (
        ApiError,
        Elasticsearch,
        NotFoundError,
        OrjsonSerializer,
        SerializationError,
        TransportError,
        UnsupportedProductError,
    )
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("Elasticsearch needs the extra: pip install 'actionbus[elasticsearch]'") from error

_COMPATIBLE: Final = re.compile(r"compatible-with=\d+")
_SPOKEN: Final = "compatible-with=8"
NDJSON: Final = {
    "content-type": f"application/vnd.elasticsearch+x-ndjson; {_SPOKEN}",
    "accept": f"application/vnd.elasticsearch+json; {_SPOKEN}",
}
_HEALTH: Final = "/_cluster/health?filter_path=status"
_NOT_LET_IN: Final = frozenset({401, 403})


class _Greeting(Transport):
    """Sends nothing else before a server has shown that it is Elasticsearch."""

    _is_known = False

    def perform_request(self, method: str, target: str, **more: Any) -> TransportApiResponse:
        headers = HttpHeaders(more.pop("headers", {}))
        for name in ("accept", "content-type"):
            if name in headers:
                headers[name] = _COMPATIBLE.sub(_SPOKEN, headers[name])
        if not self._is_known:
            named = {name: value for name, value in headers.items() if name.lower() not in ("content-type", "accept")}
            accepted = {**named, "accept": NDJSON["accept"]}
            answer = super().perform_request("GET", _HEALTH, **{**more, "headers": accepted, "body": None})
            if not _is_elasticsearch(answer):
                return answer
            self._is_known = True
        answer = super().perform_request(method, target, headers=headers, **more)
        if answer.body is None and method != "HEAD" and answer.meta.status < HTTPStatus.MULTIPLE_CHOICES:
            raise SerializationError("an empty answer")
        return answer


def _is_elasticsearch(answer: TransportApiResponse) -> bool:
    """Whether it is known to be one; False where that cannot be told now. Raises StoreUnsuitable if it is not."""
    status = answer.meta.status
    node = answer.meta.node
    at = f"{node.scheme}://{node.host}:{node.port}{node.path_prefix}"
    if answer.meta.headers.get("x-elastic-product") == "Elasticsearch":
        if status in (400, 406):
            raise StoreUnsuitable(
                f"the Elasticsearch at {at} does not speak as version 8 does: actionbus needs 8.19 or later"
            )
        return True
    if status in _NOT_LET_IN or status in TOO_BUSY or status >= 500:
        return False
    raise StoreUnsuitable(
        f"what answers at {at} is not Elasticsearch (it may be OpenSearch, or a proxy that takes the header "
        "X-Elastic-Product away); actionbus needs Elasticsearch 8.19 or later, or `embedded`. Nothing was made there"
    )


def options_of(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the settings `ACTIONBUS_ELASTICSEARCH_…` say of connections. Raises ValueError for what makes no sense."""

    def told_of(name: str) -> str | None:
        return environment.get(name) or None

    user, password = told_of("ACTIONBUS_ELASTICSEARCH_USER"), told_of("ACTIONBUS_ELASTICSEARCH_PASSWORD")
    if (user is None) != (password is None):
        there, missing = ("USER", "PASSWORD") if user else ("PASSWORD", "USER")
        raise ValueError(f"ACTIONBUS_ELASTICSEARCH_{there} is set and ACTIONBUS_ELASTICSEARCH_{missing} is not")
    if user and told_of("ACTIONBUS_ELASTICSEARCH_API_KEY"):
        raise ValueError("ACTIONBUS_ELASTICSEARCH_USER and ACTIONBUS_ELASTICSEARCH_API_KEY exclude each other")
    found: dict[str, Any] = {
        "basic_auth": (user, password) if user else None,
        "api_key": told_of("ACTIONBUS_ELASTICSEARCH_API_KEY"),
        "ca_certs": told_of("ACTIONBUS_ELASTICSEARCH_CA_CERTS"),
        "client_cert": told_of("ACTIONBUS_ELASTICSEARCH_CLIENT_CERT"),
        "client_key": told_of("ACTIONBUS_ELASTICSEARCH_CLIENT_KEY"),
        "ssl_assert_fingerprint": told_of("ACTIONBUS_ELASTICSEARCH_FINGERPRINT"),
        "timeout": _seconds(told_of("ACTIONBUS_ELASTICSEARCH_TIMEOUT")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _seconds(text: str | None) -> float | None:
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        seconds = -1
    if seconds is not None and not 0 < seconds < 1e6:
        raise ValueError(f"ACTIONBUS_ELASTICSEARCH_TIMEOUT is {text!r}; it must be a number of seconds, such as 30")
    return seconds


def hosts_of(where: str) -> list[str]:
    """The URLs of several nodes, with commas between. Raises ValueError for what is not a URL."""
    hosts = [each.strip() for each in where.split(",") if each.strip()]
    for each in hosts:
        if not each.startswith(("http://", "https://")):
            shown = each.rsplit("@", 1)[-1]
            raise ValueError(f"{shown!r} is not the URL of a node, such as https://search.example:9200")
    if not hosts:
        raise ValueError("give the URL of at least one node of Elasticsearch, such as http://localhost:9200")
    return hosts


def client_for(hosts: list[str], timeout: float, options: Mapping[str, Any]) -> Elasticsearch:
    """A client. Raises ValueError for a file of certificates that cannot be read, or an address that is not a URL."""
    see_files(options)
    return Elasticsearch(
        hosts,
        request_timeout=timeout,
        max_retries=max(2, len(hosts)),
        retry_on_timeout=True,
        retry_on_status=(429, 502, 503, 504),
        serializer=OrjsonSerializer(),
        transport_class=_Greeting,
        **options,
    )


@contextmanager
def told() -> Iterator[None]:
    """Turn what the client raises into errors of stores; other refusals pass through as they are."""
    try:
        yield
    except NotFoundError as error:
        raise IndexMissing(_reason(error)) from None
    except UnsupportedProductError as error:
        raise StoreUnavailable(
            f"what answers in the place of Elasticsearch ({error.meta.status}) is not it; it may be a proxy's page"
        ) from error
    except ApiError as error:
        status = error.meta.status
        if status == BUSY:
            raise NoRoom(f"Elasticsearch refuses for now ({status}): {_reason(error)}") from error
        if status in _NOT_LET_IN:
            raise StoreUnavailable(
                f"Elasticsearch does not let us in ({status}): {_reason(error)}; see ACTIONBUS_ELASTICSEARCH_USER, "
                "_PASSWORD and _API_KEY, and the rights that docs/guarantees.md lists"
            ) from error
        if status in TOO_BUSY or status >= 500 or error.error == "index_closed_exception":
            raise StoreUnavailable(f"Elasticsearch refuses for now ({status}): {_reason(error)}") from error
        raise StoreRefused(f"Elasticsearch does not accept this ({status}): {_reason(error)}") from error
    except SerializationError as error:  # whose message has all of the answer in it, documents included
        raise StoreUnavailable("Elasticsearch's answer cannot be read: it is no JSON, or not all of it came") from error
    except TransportError as error:
        raise StoreUnavailable(f"Elasticsearch cannot be reached: {error.message}{advice_on(error.message)}") from error


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", {})
    causes = inner.get("root_cause") or ([inner] if inner else []) if isinstance(inner, dict) else []
    return "; ".join(str(cause.get("reason", cause)) for cause in causes) or HTTPStatus(error.meta.status).phrase
