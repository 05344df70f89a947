"""The agent's page in a browser: what it shows of the server's news, and what it asks for."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect

from cti import protocol
from cti.popcard import Party
from tests.browser import cards
from tests.browser.conftest import NOW, FakeServer, Site, hire

ORDERS = "[data-order]"


async def orders_shown(page: Page) -> set[str]:
    found = page.locator(f".callbar {ORDERS}")
    return {
        str(await found.nth(place).get_attribute("data-order"))
        for place in range(await found.count())
    }


def offered(**about: Any) -> protocol.Pop:
    values = {"stage": "offered", "answered_at": None, "can": ("decline",), "since": NOW, **about}
    return protocol.Pop(card=cards.call(**values))


# --- offers ---------------------------------------------------------------------------------------


async def test_an_offer_is_on_the_screen_before_it_counts_as_seen(fake: Any) -> None:
    server: FakeServer = await fake()
    await expect(server.page.locator(".idle h1")).to_have_text("Ready")
    server.send(offered())
    await server.order("seen", conversation="c1")
    page = server.page
    await expect(page.locator("#who")).to_have_text("Maria Gonzalez")
    await expect(page.locator(".verified")).to_have_text("known number")
    first = page.locator(".facts.first dd .value")
    assert await first.all_inner_texts() == ["12345678", "87.20 USD"]
    await expect(page.locator(".transcript .misheard p")).to_have_text("one two free for")
    assert await orders_shown(page) == {"decline"}
    await expect(page).to_have_title(re.compile("Maria Gonzalez · billing"))


async def test_exactly_the_orders_of_the_card_are_buttons(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    every = {"hang_up", "hold", "mute", "keys", "transfer", "park", "text_to"}
    assert await orders_shown(server.page) == every
    held = cards.call(stage="held", can=("hang_up", "retrieve", "note"))
    server.send(protocol.Pop(card=held))
    await expect(server.page.locator(".callbar .state")).to_contain_text("On hold")
    assert await orders_shown(server.page) == {"hang_up", "retrieve"}


async def test_an_order_is_busy_until_it_is_answered_and_a_refusal_is_told(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    server.silent = {"hold"}
    server.refuse = {"park": "no parking place is free"}
    await server.page.click("[data-order=hold]")
    await expect(server.page.locator("[data-order=hold]")).to_be_disabled()
    order = await server.order("hold", conversation="c1")
    await server.page.click("[data-order=park]")
    toast = server.page.locator(".toast")
    await expect(toast).to_contain_text("no parking place is free")
    server.routes[-1].send(protocol.encode(protocol.Outcome(id=order["id"], result="unknown"), 0))
    await expect(toast.last).to_contain_text("under way when the connection was lost")
    await expect(server.page.locator("[data-order=hold]")).to_be_enabled()


async def test_an_offer_that_goes_leaves_nothing(fake: Any) -> None:
    server: FakeServer = await fake()
    server.send(offered())
    await expect(server.page.locator("#who")).to_be_visible()
    server.send(protocol.CallEnded(conversation="c1", outcome="gone"))
    await expect(server.page.locator("#who")).to_have_count(0)
    await expect(server.page.locator(".toast")).to_contain_text("The customer has left.")


async def test_a_desktop_notification_when_the_page_is_not_seen(fake: Any) -> None:
    server: FakeServer = await fake()
    page = server.page
    await page.context.grant_permissions(["notifications"])
    await page.evaluate(
        """() => {
          window.told = [];
          window.Notification = class {
            constructor(title, more) { told.push([title, more.body]); }
            close() {}
          };
          Notification.permission = "granted";
          Notification.requestPermission = async () => "granted";
          Object.defineProperty(document, "hidden", { get: () => true });
        }"""
    )
    await page.click("agent-bar .menu summary >> nth=-1")
    await page.check("[name=notify]")
    server.send(offered(name="Mar\u202eia"))
    await server.order("seen", conversation="c1")
    assert await page.evaluate("told") == [
        ["A call for you · Mar ia", "billing · +1 415-555-0123"]
    ], "without the marks that would turn the text around"


# --- calls ----------------------------------------------------------------------------------------


async def test_mute_keys_and_the_consulted(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    await page.click("[data-order=mute]")
    await server.order("mute", on=True)
    server.send(protocol.Pop(card=cards.call(muted=True)))
    await expect(page.locator("[data-order=mute]")).to_have_text("Unmute")
    await page.click("[data-order=mute]")
    await server.order("mute", on=False)
    await page.click("[data-order=keys]")
    await page.keyboard.press("4")
    await page.click(".pad button:has-text('#')")
    assert [(await server.order("keys"))["digits"] for _ in "4#"] == ["4", "#"]
    await expect(page.locator(".pressed")).to_have_text("4#")
    consult = Party(role="consulted", name="Bob", number="202", state="ringing")
    talk = ("complete", "cancel", "conference", "hang_up")
    server.send(protocol.Pop(card=cards.call(consult=consult, can=talk)))
    await expect(page.locator(".parties")).to_contain_text("Bob")
    await expect(page.locator(".parties")).to_contain_text("ringing")
    await page.click("[data-order=complete]")
    await server.order("complete", conversation="c1")


async def test_transfer_to_a_colleague_with_a_talk_first(fake: Any, site: Site) -> None:
    await hire(site, "bob", skills={"repairs": 3})
    await site.world.page("bob")
    server: FakeServer = await fake(cards.call())
    page = server.page
    await page.click("[data-order=transfer]")
    await page.click(".targets >> text=Bob")
    await page.fill("[name=note]", "Wants to pay in parts.")
    await page.click("text=Talk to them first")
    order = await server.order("transfer")
    assert (order["to"], order["mode"], order["note"]) == (
        {"kind": "agent", "value": "bob"},
        "attended",
        "Wants to pay in parts.",
    )
    await expect(page.locator("work-transfer")).to_have_count(0)
    await page.click("[data-order=transfer]")
    await page.click("work-transfer >> text=Queue")
    await expect(page.locator("text=Talk to them first")).to_have_count(0)
    await page.click(".targets >> text=repairs")
    await page.click("text=Transfer now")
    order = await server.order("transfer")
    assert (order["to"], order["mode"]) == ({"kind": "queue", "value": "repairs"}, "blind")


async def test_what_the_colleague_wrote_stands_on_top(fake: Any) -> None:
    server: FakeServer = await fake(cards.call(from_agent="bob", context="Wants to pay in parts."))
    await expect(server.page.locator(".handed")).to_contain_text("bob")
    await expect(server.page.locator(".handed p")).to_have_text("Wants to pay in parts.")


async def test_wrap_up_keeps_the_note_and_is_done(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    await page.fill(".wrap-up textarea", "Paid by card.")
    wrap = cards.call(
        stage="wrap_up",
        until=NOW + timedelta(seconds=60),
        can=("done", "more_time", "note", "contact", "fact"),
    )
    server.send(protocol.Pop(card=wrap))
    server.send(protocol.CallEnded(conversation="c1", outcome="talked", talked=180))
    await expect(page.locator(".callbar time")).to_have_text(re.compile(r"0:5\d|1:00"))
    await page.click("text=Follow up")
    await page.click("[data-order=more_time]")
    await server.order("more_time")
    await page.click("[data-order=done]")
    note = await server.order("note", disposition="follow_up")
    assert note["text"] == "Paid by card."
    await server.order("done", conversation="c1")
    server.send(protocol.Wrapped(conversation="c1"))
    await expect(page.locator(".idle")).to_be_visible()
    assert await page.evaluate("sessionStorage.getItem('draft c1')") is None


async def test_drafts_outlive_a_reload(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat(can=("say", "note")))
    page = server.page
    server.silent = {"note"}
    await page.fill(".wrap-up textarea", "half a thou")
    await page.fill(".composer textarea", "half an ans")
    await page.reload()
    await expect(page.locator(".wrap-up textarea")).to_have_value("half a thou")
    await expect(page.locator(".composer textarea")).to_have_value("half an ans")


# --- who and why ----------------------------------------------------------------------------------


async def test_facts_are_corrected_in_place(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    await page.click("[aria-label='Correct: account']")
    await expect(page.locator("dd input")).to_be_focused()
    await page.keyboard.type("12345679")
    await page.keyboard.press("Enter")
    order = await server.order("fact")
    assert (order["name"], order["value"]) == ("account", "12345679")
    fact = {"name": "account", "value": "12345679", "first": True, "source": "ann"}
    server.send(protocol.Pop(card=cards.call(facts=(fact,))))
    await expect(page.locator(".facts.first .value").first).to_have_text("12345679")
    await expect(page.locator(".facts.first small")).to_have_text("corrected by ann")


async def test_the_customer_is_chosen_or_made(fake: Any) -> None:
    two = ({"id": "k1", "name": "Maria"}, {"id": "k2", "name": "Pedro", "numbers": ("+1 415",)})
    server: FakeServer = await fake(cards.call(name="", matches=two, verified="claimed"))
    page = server.page
    await expect(page.locator("#who")).to_have_text("+1 415-555-0123")
    await page.click(".matches >> text=Pedro")
    assert (await server.order("contact"))["contact"] == "k2"
    await page.click("text=New contact")
    await page.fill("work-contact [name=name]", "Ana")
    await page.click("work-contact button:has-text('Save')")
    order = await server.order("contact")
    assert (order["contact"], order["name"], order["remember"]) == ("", "Ana", True)


async def test_text_this_to_the_caller(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    await page.click("[data-order=text_to]")
    await page.select_option("[name=channel]", "sms")
    await page.fill("text-to textarea", "Your case is 4711.")
    await page.click("text-to button:has-text('Send')")
    order = await server.order("text_to")
    assert (order["channel"], order["text"]) == ("sms", "Your case is 4711.")
    await expect(page.locator(".toast")).to_have_text(re.compile("Sent over SMS"))


async def test_a_crm_that_is_slow_or_broken_is_told(fake: Any) -> None:
    server: FakeServer = await fake(cards.call(crm_state="loading"))
    await expect(server.page.get_by_text("The CRM is being asked…")).to_be_visible()
    server.send(protocol.Pop(card=cards.call(crm_state="failed")))
    await expect(server.page.get_by_text("The CRM does not answer.")).to_be_visible()


# --- chats ----------------------------------------------------------------------------------------


async def test_several_chats_beside_a_call(fake: Any) -> None:
    chats = [cards.chat(conversation=f"t{i}", name=f"Customer {i}") for i in (1, 2, 3)]
    server: FakeServer = await fake(cards.call(), *chats)
    page = server.page
    await expect(page.locator(".works .row")).to_have_count(4)
    await expect(page.locator("#who")).to_have_text("Maria Gonzalez")
    for number in (7, 8):
        server.send(
            protocol.NewMessage(
                conversation="t2", message=cards.text(number, "customer", f"text {number}")
            )
        )
    row = page.locator("[data-conversation=t2]")
    await expect(row.locator(".badge")).to_contain_text("2")
    await row.click()
    assert (await server.order("read", conversation="t2", up_to="m8"))["type"] == "read"
    await expect(row.locator(".badge")).to_have_count(0)
    await expect(page.locator(".thread li").last).to_contain_text("text 8")


async def test_a_text_is_shown_at_once_and_then_how_far_it_got(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat())
    page = server.page
    server.silent = {"say"}
    await page.fill(".composer textarea", "On Monday.")
    await server.order("typing", on=True)
    await page.press(".composer textarea", "Enter")
    sent = await server.order("say", text="On Monday.")
    await server.order("typing", on=False)
    last = page.locator(".thread li").last
    await expect(last).to_contain_text("On Monday.")
    await expect(last.locator(".status")).to_have_text("sending…")
    message = cards.text(7, "agent", "On Monday.", name="Ann Lindqvist", status="delivered")
    server.send(
        protocol.NewMessage(
            conversation="t1", message=message.model_copy(update={"id": sent["id"]})
        )
    )
    await expect(last.locator(".status")).to_have_text("delivered")
    server.send(protocol.CustomerRead(conversation="t1", up_to=sent["id"]))
    await expect(last.locator(".status")).to_have_text("read")
    await expect(page.locator(".composer textarea")).to_have_value("")


async def test_typing_is_shown_while_it_lasts(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat())
    typing = server.page.locator(".typing")
    server.send(protocol.CustomerTyping(conversation="t1", on=True))
    await expect(typing).to_contain_text("Wei Chen is writing…")
    server.send(protocol.CustomerTyping(conversation="t1", on=False))
    await expect(typing).to_have_text("")


async def test_canned_replies_are_filled_from_the_card(fake: Any) -> None:
    known = ({"name": "account", "value": "77", "first": True},)
    server: FakeServer = await fake(cards.chat(facts=known))
    page = server.page
    await page.select_option(".replies", "hello")
    box = page.locator(".composer textarea")
    await expect(box).to_have_value("Hello Wei Chen, I am looking at account 77 for {purpose}.")
    await page.keyboard.type("the refund")
    await expect(box).to_have_value("Hello Wei Chen, I am looking at account 77 for the refund.")


async def test_a_file_is_a_name_and_a_size(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat())
    await server.page.route("**/api/files/f1", lambda route: route.fulfill(body="x" * 10))
    async with server.page.expect_download() as started:
        await server.page.click("text=parcel.jpg")
    assert (await started.value).suggested_filename == "parcel.jpg"


async def test_take_over_and_give_back(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat(stage="offered", can=("accept", "decline")))
    page = server.page
    await expect(page.locator(".composer")).to_have_count(0)
    await page.click("[data-order=accept]")
    await server.order("accept", conversation="t1")
    server.send(protocol.Pop(card=cards.chat(can=("take",))))
    await page.click("[data-order=take]")
    await server.order("take")
    server.send(protocol.Pop(card=cards.chat()))
    await page.click("[data-order=give_back]")
    await server.order("give_back")


# --- the connection -------------------------------------------------------------------------------


async def test_it_comes_back_by_itself_and_misses_nothing(fake: Any) -> None:
    server: FakeServer = await fake(cards.chat())
    page = server.page
    server.silent = {"say", "hang_up"}
    await page.fill(".composer textarea", "Are you there?")
    await page.press(".composer textarea", "Enter")
    said = await server.order("say")
    await page.click("[data-order=hang_up]")
    await server.order("hang_up")
    await server.cut()
    await expect(page.locator(".banner")).to_contain_text("Trying again")
    missed = cards.text(7, "customer", "while you were away")
    server.send_while_away(protocol.NewMessage(conversation="t1", message=missed))
    server.silent.clear()
    login = await server.order("login", stream="s")
    assert login["after"] == 1
    await expect(page.locator(".banner")).to_have_count(0)
    await expect(page.locator(".thread")).to_contain_text("while you were away")
    assert (await server.order("say"))["id"] == said["id"], "the same text, not a second one"
    await expect(page.locator(".toast")).to_contain_text("Look at the card")
    assert not [one for one in server.orders if one["type"] == "hang_up"], "never asked twice"


async def test_what_is_over_meanwhile_is_gone(fake: Any) -> None:
    server: FakeServer = await fake(cards.call(), cards.chat())
    server.n += 600  # more than the server keeps
    assert server.hello is not None
    server.hello = server.hello.model_copy(update={"cards": (cards.chat(),)})
    await server.cut()
    await expect(server.page.locator(".works .row")).to_have_count(1)
    await expect(server.page.locator("#who")).to_have_text("Wei Chen")


async def test_without_a_connection_nothing_is_pretended(fake: Any) -> None:
    server: FakeServer = await fake(cards.call())
    page = server.page
    server.deaf = True
    await server.cut()
    await expect(page.locator(".banner")).to_be_visible()
    await page.click("[data-order=hang_up]")
    await expect(page.locator(".toast")).to_contain_text("this was not done")


# --- presence, keys, width ------------------------------------------------------------------------


async def test_presence_has_reasons(fake: Any) -> None:
    server: FakeServer = await fake()
    page = server.page
    await page.select_option("#presence", label="Away: Lunch")
    assert (await server.order("presence"))["reason"] == "lunch"
    server.send(protocol.PresenceNow(state="away", reason="missed", since=NOW))
    await expect(page.locator(".idle p.quiet")).to_contain_text("You did not answer.")
    await page.click("#come-back")
    assert (await server.order("presence"))["to"] == "available"


async def test_by_keyboard_alone(fake: Any) -> None:
    server: FakeServer = await fake(cards.call(), cards.chat())
    page = server.page
    await page.keyboard.press("2")
    await expect(page.locator("#who")).to_have_text("Wei Chen")
    await page.keyboard.press("r")
    await page.keyboard.type("h1 hold")  # letters are letters in a field
    await expect(page.locator(".composer textarea")).to_have_value("h1 hold")
    await page.keyboard.press("Escape")
    await page.focus("[data-conversation=t1]")
    await page.keyboard.press("ArrowUp")
    await expect(page.locator("#who")).to_have_text("Maria Gonzalez")
    await expect(page.locator("[data-conversation=c1]")).to_be_focused()
    rows = page.locator(".works .row[tabindex='0']")
    await expect(rows).to_have_count(1)
    await page.keyboard.press("h")
    await server.order("hold", conversation="c1")
    await page.keyboard.press("t")
    await expect(page.locator("work-transfer input").first).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-order=transfer]")).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.locator("dialog")).to_contain_text("Hold, and back")
    await page.keyboard.press("Escape")
    await page.click("agent-bar .menu summary >> nth=-1")
    await page.uncheck("[name=shortcuts]")
    await page.keyboard.press("Escape")
    await page.keyboard.press("m")
    assert not [one for one in server.orders if one["type"] == "mute"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [1440, 1024, 768, 390, 360])
async def test_nothing_sticks_out(fake: Any, width: int, language: str) -> None:
    server: FakeServer = await fake(cards.call(), cards.chat(), width=width, language=language)
    page = server.page
    for conversation in ("c1", "t1"):
        await page.click(f"[data-conversation={conversation}]")
        await page.click("[data-order=transfer]")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        for box in await page.locator(".callbar button").all():
            place = await box.bounding_box()
            assert place is not None
            assert place["x"] >= 0
            assert place["x"] + place["width"] <= width
    assert await page.evaluate("document.documentElement.lang") == (
        "en" if language == "en" else "zh-CN"
    )
