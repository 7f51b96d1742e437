"""TLS in front of a server that speaks none: an authority and certificates made here, and a proxy that ends TLS."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certified:
    """A certificate and its key, in files of PEM."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate."""
        pem = self.certificate.read_text()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


class Authority:
    """One who signs certificates, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = _named(name)
        made = (
            _begun(own, own, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str, address: str = "127.0.0.1") -> Certified:
        """A certificate for a host that is reached at an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(_named(name), _named(self._name), key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certified = Certified(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        certified.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        certified.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certified


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


@contextmanager
def in_front_of(url: str, own: Certified, *, clients: Path | None = None) -> Iterator[str]:
    """The URL of a proxy with TLS; with `clients` it lets in only who has a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    target = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(
            target=_accept, args=(listening, context, (target.hostname or "", target.port or 9200)), daemon=True
        )
        accepting.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    accepting.join(10)


def _accept(listening: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    while True:
        try:
            raw, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(raw, context, target), daemon=True).start()


def _serve(raw: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    with (
        raw,
        suppress(OSError),
        context.wrap_socket(raw, server_side=True) as client,
        socket.create_connection(target) as server,
    ):
        back = threading.Thread(target=_carry, args=(server, client), daemon=True)
        back.start()
        _carry(client, server)
        back.join(10)


def _carry(come: socket.socket, go: socket.socket) -> None:
    with suppress(OSError):
        while data := come.recv(65_536):
            go.sendall(data)
    with suppress(OSError):
        go.shutdown(socket.SHUT_WR)
