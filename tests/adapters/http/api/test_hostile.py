"""Whatever a request says, it is answered in a sentence, with the status that fits, and does nothing unasked."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.adapters.http.api.client import Client

DEEP = "[" * 10_000 + "]" * 10_000
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}
FIRST, LAST = "0001-01-01T00:00:00", "9999-12-31T23:59:59"
HOSTILE: list[tuple[str, str, str, bytes, dict[str, str], int]] = [
    # what, method, path, body, headers, status
    ("an unknown action", "POST", "/actions/nothing", b"{}", JSON, 404),
    ("a dotted name", "POST", "/actions/os.system", b"{}", JSON, 404),
    ("a dunder", "POST", "/actions/__init__", b"{}", JSON, 404),
    ("a path", "POST", "/actions/../../etc/passwd", b"{}", JSON, 404),
    ("an escaped slash", "POST", "/actions/a%2Fb", b"{}", JSON, 404),
    ("an escaped NUL", "POST", "/actions/a%00b", b"{}", JSON, 404),
    ("a name of a megabyte", "POST", "/actions/" + "a" * 1_000_000, b"{}", JSON, 404),
    ("a name in Cyrillic", "POST", "/actions/%D1%81reate_kit", b"{}", JSON, 404),
    ("a UUID for a name", "POST", f"/actions/{uuid4()}", b"{}", JSON, 405),
    ("the wrong method", "DELETE", "/actions/create_kit", b"{}", JSON, 405),
    ("a name that is read", "GET", "/actions/create_kit", b"", {}, 405),
    ("no arguments", "POST", "/actions/create_kit", b"{}", JSON, 422),
    ("an unknown argument", "POST", "/actions/create_kit", b'{"name": "a", "is_admin": true}', JSON, 422),
    ("a list", "POST", "/actions/create_kit", b"[]", JSON, 400),
    ("a text", "POST", "/actions/create_kit", b'"name"', JSON, 400),
    ("null", "POST", "/actions/create_kit", b"null", JSON, 400),
    ("a long number alone", "POST", "/actions/create_kit", b"9" * 5_000, JSON, 400),
    ("null, for an action that takes nothing", "POST", "/actions/revoke_token", b"null", JSON, 400),
    ("no JSON", "POST", "/actions/create_kit", b"{", JSON, 400),
    ("NaN", "POST", "/actions/create_kit", b'{"name": NaN}', JSON, 400),
    ("no UTF-8", "POST", "/actions/create_kit", b'{"name": "\xff"}', JSON, 400),
    ("10,000 lists in each other", "POST", "/actions/create_kit", DEEP.encode(), JSON, 400),
    ("100 lists in each other", "POST", "/actions/create_kit", b'{"name": ' + b"[" * 99 + b"]" * 99 + b"}", JSON, 422),
    ("a name twice", "POST", "/actions/create_kit", b'{"name": "a", "name": "b"}', JSON, 400),
    ("a NUL", "POST", "/actions/create_kit", b'{"name": "a\\u0000b"}', JSON, 422),
    ("half a surrogate", "POST", "/actions/create_kit", b'{"name": "\\ud800"}', JSON, 422),
    ("a number of 2,000 digits", "POST", "/actions/create_kit", b'{"name": ' + b"9" * 2_000 + b"}", JSON, 422),
    ("a number of 5,000 digits", "POST", "/actions/create_kit", b'{"name": ' + b"9" * 5_000 + b"}", JSON, 422),
    ("one of them in a list", "POST", "/actions/create_kit", b'{"name": ["a", ' + b"9" * 5_000 + b"]}", JSON, 422),
    ("a megabyte and a half", "POST", "/actions/create_kit", b'{"name": "' + b"a" * 1_500_000 + b'"}', JSON, 413),
    ("ten megabytes", "POST", "/actions/create_kit", b" " * 10_000_000, JSON, 413),
    ("a form", "POST", "/actions/create_kit", b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("text", "POST", "/actions/create_kit", b'{"name": "a"}', TEXT, 415),
    ("a patch", "POST", "/actions/create_kit", b'{"name": "a"}', {"Content-Type": "application/merge-patch+json"}, 415),
    ("a suffix", "POST", "/actions/create_kit", b'{"name": "a"}', {"Content-Type": "x+json"}, 415),
    ("gzip", "POST", "/actions/create_kit", b"\x1f\x8b", {**JSON, "Content-Encoding": "gzip"}, 415),
    ("an empty key", "POST", "/actions/create_kit", b'{"name": "a"}', {**JSON, "Idempotency-Key": ""}, 422),
    ("a long key", "POST", "/actions/create_kit", b'{"name": "a"}', {**JSON, "Idempotency-Key": "k" * 201}, 422),
    ("a time that is none", "POST", "/actions/create_kit?eta=soon", b'{"name": "a"}', JSON, 400),
    ("a time beyond all", "POST", f"/actions/create_kit?eta={LAST}-14:00", b'{"name": "a"}', JSON, 400),
    ("a time before all", "POST", f"/actions/create_kit?eta={FIRST}%2B14:00", b'{"name": "a"}', JSON, 400),
    ("a projection that is none", "POST", "/actions/create_kit?wait_for=x", b'{"name": "a"}', JSON, 400),
    ("an endless wait", "POST", "/actions/create_kit?timeout=inf", b'{"name": "a"}', JSON, 400),
    ("an action that is none", "GET", f"/actions/{uuid4()}", b"", {}, 404),
    ("an id that is none", "GET", "/actions/1", b"", {}, 405),
    ("an unknown search", "GET", "/search/x", b"", {}, 404),
    ("all pages", "GET", "/search/assets?limit=100000000000000000000", b"", {}, 400),
    ("a page before the first", "GET", "/search/assets?page=0", b"", {}, 400),
    ("a filter that is none", "GET", "/search/assets?filter=x", b"", {}, 400),
    ("a parameter that is none", "GET", "/search/assets?qq=a", b"", {}, 400),
    ("two texts", "GET", "/search/assets?q=a&q=b", b"", {}, 400),
    ("two cursors", "GET", "/search/assets?cursor=*&cursor=*", b"", {}, 400),
    ("two limits", "GET", "/search/assets?limit=1&limit=2", b"", {}, 400),
    ("two bounds of a kind", "GET", "/search/assets?range=n:gte:1&range=n:gte:2", b"", {}, 400),
    ("somebody's kit", "GET", f"/search/assets?filter=kit_id:{uuid4()}", b"", {}, 403),
    ("everybody's kits", "GET", "/search/assets?q=a", b"", {}, 403),
]


@pytest.mark.parametrize("what", [what for what, *_ in HOSTILE])
def test_hostile(ana: Client, what: str) -> None:
    [(method, path, body, headers, status)] = [rest for name, *rest in HOSTILE if name == what]
    response = ana.http.open(path, method=method, data=body, headers=ana.headers | headers)
    assert response.status_code == status, response.get_data(as_text=True)[:500]
    if status in (404, 405) and response.mimetype == "text/html":
        assert "Traceback" not in response.text  # not a path of the API
        return
    assert response.mimetype == "application/problem+json"
    told = response.get_json()
    assert told["status"] == status
    assert {"type", "title", "detail"} <= set(told)
    assert len(response.data) < 3_000
    assert "set_int_max_str_digits" not in response.text
    if status == 422:
        assert told["errors"]
        assert told["action_id"], "what was asked is on record"


@pytest.mark.parametrize("given", ["", "x" * 201, "a b", "caf\u00e9"])
def test_a_request_id_that_is_none_is_replaced(ana: Client, given: str) -> None:
    response = ana.post("/actions/create_kit", {"name": "A"}, headers={"X-Request-ID": given})
    assert response.status_code == 200
    assert len(response.headers["X-Request-ID"]) == 32
