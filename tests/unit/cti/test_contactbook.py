"""The book of customers over REST: one number in all its writings, and nobody twice."""

from __future__ import annotations

from typing import Any

import pytest

from ivr.model import Address, Channel, Contact
from tests.unit.cti.test_web import Site
from tests.unit.cti.test_web import site as site

ANN = Address(Channel.VOICE, "+14155550123")
MARIA = {"name": "Maria Gonzalez", "language": "es", "numbers": ["(415) 555-0123"]}


async def asked(site: Site, method: str, path: str, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {await site.token()}"}
    return await site.http.request(method, path, headers=headers, **more)


async def made(site: Site, **changed: Any) -> dict[str, Any]:
    answer = await asked(site, "POST", "/api/contacts", json={**MARIA, **changed})
    assert answer.status_code == 201, answer.text
    contact: dict[str, Any] = answer.json()
    return contact


async def found(site: Site, text: str) -> list[str]:
    answer = await asked(site, "GET", "/api/contacts", params={"q": text})
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["contacts"]]


async def test_a_customer_is_entered_and_found_in_any_writing(site: Site) -> None:
    contact = await made(site)
    assert contact["numbers"] == ["+1 415-555-0123"]
    for text in (
        "maria", "GONZ", "+1 415 555 0123", "4155550123", "1-415-555-0123", "(415) 555", "5550123",
        "0123", "011 1 415 555 0123",
    ):  # fmt: skip
        assert await found(site, text) == ["Maria Gonzalez"], text
    for text in ("nobody", "%", "_", "415 555 0124", "01"):
        assert await found(site, text) == [], text
    [known] = await site.world.store.contacts_by_address(ANN)
    assert (known.id, known.language) == (contact["id"], "es")


async def test_who_calls_from_an_entered_number_is_known(site: Site) -> None:
    await site.world.caller("c1")
    contact = await made(site)
    answer = await asked(site, "GET", f"/api/contacts/{contact['id']}")
    assert answer.json()["contact"] == contact
    assert answer.json()["earlier"] == []  # it has only just begun
    site.world.clock.advance(60)
    answer = await asked(site, "GET", f"/api/contacts/{contact['id']}")
    assert [one["channel"] for one in answer.json()["earlier"]] == ["voice"]


async def test_the_same_customer_is_not_entered_twice(site: Site) -> None:
    await made(site)
    again = {**MARIA, "name": "maria gonzalez", "numbers": ["+1.415.555.0123"]}
    answer = await asked(site, "POST", "/api/contacts", json=again)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await made(site, name="Bob Gonzalez")  # who shares the number


async def test_a_change_leaves_the_rest_as_it_was(site: Site) -> None:
    sms, web = Address(Channel.SMS, ANN.value), Address(Channel.CHAT, "browser-1")
    other = Address(Channel.VOICE, "+442079460123")
    await site.world.store.save_contact(Contact("k1", "Ann", "en", (ANN, sms, web)))

    async def changed(**change: Any) -> Contact | None:
        answer = await asked(site, "PATCH", "/api/contacts/k1", json=change)
        assert answer.status_code == 200, answer.text
        return await site.world.store.contact("k1")

    assert await changed(name="Anna") == Contact("k1", "Anna", "en", (ANN, sms, web))
    assert await changed(language="") == Contact("k1", "Anna", "", (ANN, sms, web))
    both = [ANN.value, "+44 (0)20 7946 0123"]
    assert await changed(numbers=both) == Contact("k1", "Anna", "", (ANN, other, sms, web))
    assert await changed(numbers=["+44 20 7946 0123"]) == Contact("k1", "Anna", "", (other, web))


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/contacts", {"name": ""}, 422),
        ("POST", "/api/contacts", {"name": "\u202e\u2066"}, 422),
        ("POST", "/api/contacts", {"name": "x" * 201}, 422),
        ("POST", "/api/contacts", {"name": "x", "numbers": ["1"] * 11}, 422),
        ("POST", "/api/contacts", {"name": "x", "language": "e n"}, 422),
        ("POST", "/api/contacts", {"name": "x", "id": "k1"}, 422),
        ("POST", "/api/contacts", {"name": "x", "numbers": ["anonymous"]}, 409),
        ("POST", "/api/contacts", {"name": "x", "numbers": ["<script>"]}, 409),
        ("PATCH", "/api/contacts/k9", {"name": "x"}, 404),
        ("PATCH", "/api/contacts/k1", {"name": ""}, 422),
        ("GET", "/api/contacts/k9", None, 404),
        ("GET", "/api/contacts", None, 422),
    ],
)
async def test_what_makes_no_sense_is_refused(
    site: Site, method: str, path: str, body: Any, status: int
) -> None:
    await site.world.store.save_contact(Contact("k1", "Ann"))
    answer = await asked(site, method, path, json=body)
    assert answer.status_code == status, answer.text
    assert "script" not in answer.text
    assert await site.world.store.contact("k1") == Contact("k1", "Ann")


async def test_a_number_without_a_person_is_not_in_the_book(site: Site) -> None:
    await site.world.caller("c1")
    [nobody] = await site.world.store.contacts_by_address(ANN)
    assert (await asked(site, "GET", f"/api/contacts/{nobody.id}")).status_code == 404
    assert await found(site, "4155550123") == []
