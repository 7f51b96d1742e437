"""What is wrong with TLS between us and Elasticsearch, and what to do. `elasticsearch_client` asks."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_FILES: Final = ("ca_certs", "client_cert", "client_key")
_ADVICE: Final = (
    (
        ("Fingerprints did not match",),
        "the certificate that it shows is not the one of ACTIONBUS_ELASTICSEARCH_FINGERPRINT: if it was renewed, "
        "give the new one's",
    ),
    (
        ("doesn't match", "Hostname mismatch", "IP address mismatch"),
        "its certificate is not for the host that ACTIONBUS_ELASTICSEARCH_URL names: name it as the certificate does, "
        "or have one made for this host",
    ),
    (
        ("certificate has expired", "certificate is not yet valid"),
        "its certificate is out of date: have it renewed, and see that the clock here is right",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "its certificate is signed by nobody who is trusted here: ACTIONBUS_ELASTICSEARCH_CA_CERTS names the file of "
        "the authority's certificate, or _FINGERPRINT the server's own",
    ),
    (
        ("WRONG_VERSION_NUMBER", "record layer failure"),
        "it does not speak TLS at that port: let ACTIONBUS_ELASTICSEARCH_URL begin with http://, or name another port",
    ),
    (
        ("_ALERT_", "EOF occurred in violation"),
        "it ended the talk while TLS was agreed on: if it wants to know us, ACTIONBUS_ELASTICSEARCH_CLIENT_CERT and "
        "_CLIENT_KEY must name a certificate of an authority that it trusts",
    ),
)


def advice_on(message: str) -> str:
    """What to do about an error of TLS, to be added to its message; nothing if it is another."""
    return next((f": {advice}" for signs, advice in _ADVICE if any(sign in message for sign in signs)), "")


def see_files(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a file of certificates that is missing or holds none, or a key of another certificate.

    The client would say so with every request, and not which file it is.
    """
    for name in _FILES:
        if (path := options.get(name)) and not Path(path).is_file():
            raise ValueError(f"there is no file {path!r}, which was given as {name} for Elasticsearch")
    context = ssl.create_default_context()
    if trusted := options.get("ca_certs"):
        try:
            context.load_verify_locations(trusted)
        except ssl.SSLError as error:
            raise ValueError(
                f"ca_certs for Elasticsearch is {trusted!r}, which holds no certificate: {error}"
            ) from None
    if own := options.get("client_cert"):
        key = options.get("client_key")
        try:
            context.load_cert_chain(own, key)
        except ssl.SSLError as error:
            raise ValueError(
                f"client_cert and client_key for Elasticsearch are {own!r} and {key!r}; they must be a certificate and "
                f"its own key (ACTIONBUS_ELASTICSEARCH_CLIENT_CERT, _CLIENT_KEY): {error}"
            ) from None
