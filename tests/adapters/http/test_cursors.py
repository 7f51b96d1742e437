"""Over HTTP a cursor is of one search and one caller, and nobody can make one up."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from actionbus.adapters.http.cursors import Cursors, Seals
from actionbus.adapters.http.refusals import Malformed
from tests.adapters.conftest import Web

NAMES = ["red apple", "green apple", "apple pie", "red pear"]


@pytest.fixture
def kit(web: Web, do: Callable[..., Any], request: pytest.FixtureRequest) -> str:
    """A kit of ana's, with assets in it."""
    if getattr(request, "param", "embedded") == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        web.app.extensions["actionbus"].api._elasticsearch = request.getfixturevalue("elasticsearch_url")
    ana = web.as_("ana")
    made = str(do(ana, "create_kit", name="A")["kit_id"])
    for name in NAMES:
        do(ana, "add_asset", kit_id=made, name=name)
    web.project()
    return made


@pytest.mark.parametrize("kit", ["embedded", "elasticsearch"], indirect=True)
def test_cursors_lead_to_the_end_in_the_order_that_is_asked_for(web: Web, kit: str) -> None:
    ana, cursor, found = web.as_("ana"), "*", []
    while cursor:
        query = {"filter": f"kit_id:{kit}", "sort": "-added_at", "limit": "3", "cursor": cursor}
        answer = ana.get("/search/assets", query_string=query).get_json()
        assert answer["total"] == len(NAMES)
        found += [hit["document"]["name"] for hit in answer["hits"]]
        cursor = answer.get("next")
    assert found == NAMES[::-1]
    where = f"/search/assets?filter=kit_id:{kit}"
    assert "next" not in ana.get(where).get_json()
    phrase = ana.get(f"{where}&q=red apple&match=phrase").get_json()
    assert [hit["document"]["name"] for hit in phrase["hits"]] == ["red apple"]
    assert ana.get(f"{where}&q=red app&match=prefix").get_json()["total"] == 1
    assert ana.get(f"{where}&range=added_at:lt:2000-01-01").get_json()["total"] == 0


def test_no_other_cursor_is_taken(web: Web, kit: str, do: Callable[..., Any]) -> None:
    ana, bob = web.as_("ana"), web.as_("bob")
    where = f"/search/assets?filter=kit_id:{kit}&limit=2"
    given = ana.get(f"{where}&cursor=*").get_json()["next"]
    assert ana.get(f"{where}&cursor={given}").status_code == 200
    inner = given.partition(".")[2]
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(inner + "==")[:-3] + b"9]]").decode()
    for hostile in (
        inner,
        f".{inner}",
        f"AAAA.{inner}",
        given[:-1],
        f"{given.partition('.')[0]}.{forged}",
        "x",
        "**",
        "é.é",
        Cursors(b"guessed", "ana", "assets").sealed(inner),
    ):
        response = ana.get("/search/assets", query_string={"cursor": hostile, "filter": f"kit_id:{kit}", "limit": "2"})
        assert response.status_code == 400, hostile
        assert response.get_json()["errors"]["cursor"]
    other = ana.get(f"{where}&sort=added_at&cursor={given}")
    assert (other.status_code, "another search" in other.get_json()["detail"]) == (400, True)
    assert ana.get(f"/search/kits?filter=kit_id:{kit}&limit=2&cursor={given}").status_code == 400
    seals = Seals(web.bus)
    assert seals.of("ana", "assets").opened(given) == inner
    for others in (("bob", "assets"), (None, "assets"), ("ana", "kits")):
        with pytest.raises(Malformed, match="cursor"):
            seals.of(*others).opened(given)
    somebody_elses = bob.get(f"{where}&cursor={given}")
    assert somebody_elses.status_code in (400, 403)
    assert web.app.test_client().get(f"{where}&cursor={given}").status_code == 401
