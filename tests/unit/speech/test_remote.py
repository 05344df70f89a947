"""Which servers a setting names, and when a server that fails is asked again."""

from __future__ import annotations

import asyncio

import pytest

from ivr.speech import remote
from ivr.speech.remote import Remote, servers_for


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", ()),
        ("ws://one", ("ws://one",)),
        (" ws://one , ws://two,, ws://one", ("ws://one", "ws://two")),
        ("ws://{language}.farm:2700", ("ws://zh.farm:2700",)),
        ("ws://a/{language},ws://b/{language}", ("ws://a/zh", "ws://b/zh")),
        ("ws://{other}", ("ws://{other}",)),
    ],
)
def test_servers_of_a_language(setting: str, expected: tuple[str, ...]) -> None:
    assert servers_for("zh", setting) == expected


class Tried(Remote):
    """A server that answers a trial when the test says so."""

    well = True
    trials = 0

    async def _answers(self) -> bool:
        self.trials += 1
        return self.well


async def there() -> Tried:
    server = Tried("ws://farm", "en")
    await server.start()
    assert server.circuit is remote.Circuit.CLOSED
    return server


async def test_two_failures_in_a_row_open_the_circuit_and_a_trial_closes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "_TRY_AGAIN_SECONDS", 0)
    server = await there()
    for trouble in ("timeout", "", "lost", "", "protocol"):
        server.judge(trouble, 0)
        assert server.circuit is remote.Circuit.CLOSED, "not in a row"
    server.judge("lost", 0)
    assert server.circuit is remote.Circuit.OPEN
    assert server._trying is not None
    await server._trying
    assert server.circuit is remote.Circuit.CLOSED
    server.judge("lost", 0)
    assert server.circuit is remote.Circuit.CLOSED, "the count begins anew"
    await server.stop()


async def test_trials_go_on_until_one_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_TRY_AGAIN_SECONDS", 0)
    server = await there()
    server.well = False
    server.judge("lost", 0)
    server.judge("lost", 0)
    while server.trials < 5:
        assert server.circuit is not remote.Circuit.CLOSED
        await asyncio.sleep(0)
    server.well = True
    assert server._trying is not None
    await server._trying
    assert server.circuit is remote.Circuit.CLOSED
    await server.stop()


async def test_an_utterance_from_before_that_is_answered_closes_it_too() -> None:
    server = await there()
    server.judge("lost", 0)
    server.judge("lost", 0)
    server.judge("", 0)
    assert server.circuit is remote.Circuit.CLOSED
    await server.stop()


async def test_late_answers_to_some_while_others_are_answered_open_nothing() -> None:
    server = await there()
    server.judge("", 0)
    for _ in range(5):
        server.judge("timeout", -1)
    assert server.circuit is remote.Circuit.CLOSED
    await server.stop()
