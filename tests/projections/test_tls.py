"""Elasticsearch behind TLS: what is checked with which settings, and what is said when it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.elasticsearch_client import options_of
from actionbus.projections import StoreUnavailable
from actionbus.projections.store import IndexInfo, Write
from tests.projections.tls_proxy import Authority, Certified, in_front_of


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "strange")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certified:
    return authority.certify("server")


@pytest.fixture
def url(elasticsearch_url: str, elasticsearch_store: ElasticsearchStore, own: Certified) -> Iterator[str]:
    with in_front_of(elasticsearch_url, own) as found:
        yield found


def works(url: str, **settings: object) -> None:
    """Write a document and read it, with settings as they come from the environment."""
    told = {f"ACTIONBUS_ELASTICSEARCH_{name}": str(value) for name, value in settings.items()}
    store = ElasticsearchStore(url, **options_of(told | {"ACTIONBUS_ELASTICSEARCH_TIMEOUT": "20"}))
    try:
        info = IndexInfo("tls-v1-actionbus-a", "tls", 1, "journal")
        store.create_index(info, {}, {}, loading=False)
        store.write_many(info.name, [Write("k", 1, b'{"a": 1}')])
        assert store.get_many(info.name, ["k"])["k"].document == {"a": 1}
    finally:
        store.close()


def why_not(url: str, **settings: object) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        works(url, **settings)
    return str(caught.value)


def test_with_the_authority_s_certificate_it_works(url: str, authority: Authority) -> None:
    works(url, CA_CERTS=authority.certificate)


def test_with_the_server_s_fingerprint_it_works_unchecked(url: str, own: Certified) -> None:
    works(url, FINGERPRINT=own.fingerprint)


def test_another_authority_is_refused(url: str, stranger: Authority) -> None:
    assert "ACTIONBUS_ELASTICSEARCH_CA_CERTS" in why_not(url, CA_CERTS=stranger.certificate)


def test_the_system_s_authorities_do_not_know_ours(url: str) -> None:
    assert "ACTIONBUS_ELASTICSEARCH_CA_CERTS" in why_not(url)


def test_another_fingerprint_is_refused(url: str, stranger: Authority) -> None:
    other = stranger.certify("other").fingerprint
    assert "ACTIONBUS_ELASTICSEARCH_FINGERPRINT" in why_not(url, FINGERPRINT=other)


def test_a_certificate_of_another_host_is_refused(elasticsearch_url: str, authority: Authority) -> None:
    with in_front_of(elasticsearch_url, authority.certify("elsewhere", "192.0.2.1")) as url:
        assert "not for the host that ACTIONBUS_ELASTICSEARCH_URL" in why_not(url, CA_CERTS=authority.certificate)


def test_a_client_s_certificate_lets_us_in(
    elasticsearch_url: str, elasticsearch_store: ElasticsearchStore, authority: Authority, own: Certified
) -> None:
    client = authority.certify("client")
    with in_front_of(elasticsearch_url, own, clients=authority.certificate) as url:
        works(url, CA_CERTS=authority.certificate, CLIENT_CERT=client.certificate, CLIENT_KEY=client.key)


def test_without_a_client_s_certificate_or_with_a_stranger_s_we_are_not_let_in(
    elasticsearch_url: str, authority: Authority, stranger: Authority, own: Certified
) -> None:
    strange = stranger.certify("client")
    with in_front_of(elasticsearch_url, own, clients=authority.certificate) as url:
        without = why_not(url, CA_CERTS=authority.certificate)
        wrong = why_not(url, CA_CERTS=authority.certificate, CLIENT_CERT=strange.certificate, CLIENT_KEY=strange.key)
    assert "ACTIONBUS_ELASTICSEARCH_CLIENT_CERT" in without
    assert "ACTIONBUS_ELASTICSEARCH_CLIENT_CERT" in wrong


def test_a_key_of_another_certificate_is_said(url: str, authority: Authority, own: Certified) -> None:
    client = authority.certify("client")
    with pytest.raises(ValueError, match=r"its own key .*_CLIENT_KEY"):
        works(url, CA_CERTS=authority.certificate, CLIENT_CERT=client.certificate, CLIENT_KEY=own.key)


def test_tls_where_none_is_spoken_is_said(elasticsearch_url: str) -> None:
    assert "http://" in why_not(elasticsearch_url.replace("http://", "https://"))


def test_a_file_that_holds_no_certificate_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "nothing.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"ca_certs.*nothing\.pem"):
        works(url, CA_CERTS=tmp_path / "nothing.pem")
