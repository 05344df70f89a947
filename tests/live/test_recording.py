"""A recorded call on a real Asterisk: what is on the tape, what is not, and when it is gone."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
import wave
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from cti import protocol, stage
from cti.accounts import hash_password
from ivr.config import RecordingSettings, Settings
from ivr.model import Agent
from tests.live import voices
from tests.live.house import PASSWORD, House, house_settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FLOW = """
flow: main
languages: [en]
start: account
record_calls: true
slots:
  account: {type: digits, length: 4}
  pin: {type: digits, length: 4, secret: true}
  message: {type: text}
nodes:
  account:
    collect: {slot: account, ask: Please enter your account number., otherwise: bye}
    then: pin
  pin:
    collect: {slot: pin, ask: Now your secret number., wait: 20s, otherwise: bye}
    then: which
  which:
    menu:
      ask: For a person press one. To leave a message press two.
      choices:
        person: {press: 1, say: person, then: people}
        message: {press: 2, say: message, then: note}
      otherwise: bye
  people: {queue: {skills: []}, then: bye, otherwise: bye}
  note: {record: {slot: message, ask: Speak after the tone., max: 20s}, then: bye, otherwise: bye}
  bye: {end: Goodbye.}
"""

MARK, SECRET_TONE, SECRET_WORDS = 500, 1300, "my secret is elephant elephant elephant"
CALLER_SAYS = "there is water in my kitchen and it is coming through the ceiling"
AGENT_SAYS = "I am sending a plumber to your house this afternoon"
SAMPLES = 8000

Channel = npt.NDArray[np.float64]


def tone(hertz: float, seconds: float) -> bytes:
    wave_form = np.sin(np.arange(int(SAMPLES * seconds)) * 2 * np.pi * hertz / SAMPLES) * 6000
    return bytes(wave_form.astype("<i2").tobytes())


def mixed(one: bytes, other: bytes) -> bytes:
    length = min(len(one), len(other))
    sides = [np.frombuffer(each[:length], "<i2").astype(np.int32) for each in (one, other)]
    return bytes(np.clip(sides[0] // 2 + sides[1] // 2, -32768, 32767).astype("<i2").tobytes())


def loudest(channel: Channel, hertz: float) -> float:
    """The most that any fifth of a second has of one tone, relative to full scale."""
    step = SAMPLES // 5
    carrier = np.exp(-2j * np.pi * hertz * np.arange(step) / SAMPLES)
    pieces = [channel[at : at + step] for at in range(0, len(channel) - step, step // 2)]
    return max((abs(piece @ carrier) / step / 32768 for piece in pieces), default=0.0)


def quiet(left: Channel, right: Channel) -> float:
    """The longest time, in seconds, for which both sides are nothing at all."""
    loud = np.flatnonzero((left != 0) | (right != 0))
    return float(np.max(np.diff(loud))) / SAMPLES


def sides(content: bytes) -> tuple[Channel, Channel]:
    """The caller's and the other side of a recording."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, SAMPLES)
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    return both[0::2], both[1::2]


async def heard(channel: Channel) -> str:
    text, _ = await voices.hear(channel.astype("<i2").tobytes(), "")
    return text.lower()


class Supervisor:
    """Who listens, over the API alone."""

    def __init__(self, settings: Settings):
        self._url = stage.url(settings)

    async def get(self, path: str) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False, base_url=self._url) as http:
            login = {"login": "sue", "password": PASSWORD}
            token = (await http.post("/api/login", json=login)).json()["token"]
            return await http.get(path, headers={"Authorization": f"Bearer {token}"})

    async def recordings(self, conversation: str, kind: str) -> list[dict[str, Any]]:
        """Those of a kind, when there is one and it is finished."""
        deadline = time.monotonic() + 15
        while True:
            answer = await self.get(f"/api/conversations/{conversation}/recordings")
            assert answer.status_code == 200, answer.text
            found = [one for one in answer.json() if one["kind"] == kind]
            if found and all(one["state"] == "kept" for one in found):
                return found
            assert time.monotonic() < deadline, answer.text
            await asyncio.sleep(0.1)

    async def tape(self, recording: dict[str, Any]) -> bytes:
        answer = await self.get(f"/api/recordings/{recording['id']}")
        assert answer.status_code == 200, answer.text
        assert len(answer.content) == recording["size"]
        return answer.content


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorder(
    live_pbx: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    flows = tmp_path_factory.mktemp("flows")
    (flows / "main.yaml").write_text(FLOW)
    folder = str(tmp_path_factory.mktemp("tapes") / "recordings")
    recording = RecordingSettings(enabled=True, folder=folder)
    house = House(house_settings(live_pbx, "recorded", flows_dir=flows, recording=recording))
    await house.start()
    async with house.store() as store:
        sue = Agent("sue", "Sue", "", roles=frozenset({"supervisor"}))
        await store.save_agent(sue, await asyncio.to_thread(hash_password, PASSWORD))
    yield house
    await house.stop()


def tapes(house: House) -> list[Path]:
    return sorted(Path(house.settings.recording.folder).glob("*.wav"))


async def asked(house: House, conversation: str, text: str) -> None:
    """A question that the caller is being asked."""
    deadline = time.monotonic() + 20
    while True:
        entries = await house.timeline(conversation)
        if any(entry.kind == "said" and text in entry.body["text"] for entry in entries):
            return
        assert time.monotonic() < deadline, [(entry.kind, entry.body) for entry in entries]
        await asyncio.sleep(0.05)


async def test_both_sides_are_on_the_tape_and_the_secret_is_not(recorder: House) -> None:
    house, sue = recorder, Supervisor(recorder.settings)
    async with house.agent("ann", "1001") as ann, house.caller() as phone:
        await ann.screen.set_available()
        call = (await house.call(phone)).call
        conversation = (await house.live()).id
        early = asyncio.ensure_future(call.play(tone(2200, 1.0)))  # before anybody said a word
        await asyncio.sleep(4.0)
        await early
        await call.play(tone(MARK, 1.0))
        await call.press("1234")
        await asked(house, conversation, "secret number")
        await asyncio.sleep(0.3)
        pin = await voices.speak(SECRET_WORDS, "en")
        await call.play(mixed(pin, tone(SECRET_TONE, len(pin) / 2 / SAMPLES)))
        await call.press("4711")
        await asked(house, conversation, "For a person")
        await asyncio.sleep(4.5)
        await call.press("1")
        await ann.saw(protocol.Pop)
        talk = await ann.phone.incoming(10)
        await talk.answer()
        await house.until_entry(conversation, "answered")
        await asyncio.sleep(0.5)
        await call.play(await voices.speak(CALLER_SAYS, "en"))
        await talk.play(await voices.speak(AGENT_SAYS, "en"))
        await asyncio.sleep(0.5)
        await call.hang_up()
        await house.until_ended(conversation)
        [row] = await sue.recordings(conversation, "call")
        content = await sue.tape(row)

    left, right = sides(content)
    seconds = len(left) / SAMPLES
    print(f"{seconds:.1f} s, {len(content) / 1e3:.0f} kB, silent for {quiet(left, right):.1f} s")
    assert row["seconds"] == pytest.approx(seconds, abs=0.05)
    # Nothing of the caller before the announcement was over.
    assert loudest(left, 2200) < 0.002
    assert "recorded" in await heard(right[: 4 * SAMPLES])
    # The secret: neither its tone nor its words, on neither side.
    assert loudest(left, MARK) > 0.02
    assert quiet(left, right) > len(pin) / 2 / SAMPLES
    assert loudest(left, SECRET_TONE) < 0.01
    assert loudest(right, SECRET_TONE) < 0.02  # speech has a little of every tone; ours has 0.045
    words = await heard(left)
    assert "elephant" not in words and "secret" not in words
    # The talk, each on their side.
    assert "kitchen" in words and "plumber" not in words
    theirs = await heard(right[len(right) // 2 :])
    assert "plumber" in theirs and "kitchen" not in theirs
    kinds = [entry.kind for entry in await house.timeline(conversation)]
    assert kinds.count("call_recorded") == 1 and kinds.count("listened") == 1
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tapes(house))
    await house.until_metric("hotline_recordings", 0)
    metrics = await house.metrics()
    assert metrics.get("hotline_recording_failures_total", 0) == 0


async def leave_message(house: House, words: str) -> str:
    """Call, leave a message, and hang up; the conversation."""
    async with house.caller() as phone:
        call = (await house.call(phone)).call
        conversation = (await house.live()).id
        await asked(house, conversation, "account")
        await asyncio.sleep(3.5)
        await call.press("1234")
        await asked(house, conversation, "secret")
        await call.press("4711")
        await asked(house, conversation, "For a person")
        await call.press("2")
        await asked(house, conversation, "Speak after")
        await asyncio.sleep(3.0)
        await call.play(await voices.speak(words, "en"))
        await call.press("#")
        await house.until_entry(conversation, "recorded")
        await asyncio.wait_for(call.ended(), 15)
    await house.until_ended(conversation)
    return conversation


async def test_a_message_is_kept_and_both_are_gone_after_their_retention(recorder: House) -> None:
    house, sue = recorder, Supervisor(recorder.settings)
    conversation = await leave_message(house, CALLER_SAYS)
    [message] = await sue.recordings(conversation, "message")
    with wave.open(io.BytesIO(await sue.tape(message))) as file:
        assert file.getnchannels() == 1
        pcm = file.readframes(file.getnframes())
    text = (await voices.hear(pcm, ""))[0].lower()
    assert "kitchen" in text, text
    await sue.recordings(conversation, "call")
    before = len(tapes(house))
    assert before >= 2

    await house.stop()
    path = house.settings.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as db, db:
        then = "2020-01-01 00:00:00.000000"
        query = "update recordings set started_at = ? where conversation_id = ?"
        db.execute(query, (then, conversation))
    await house.start()  # sweeps first of all
    deadline = time.monotonic() + 10
    while house.rows("select id from recordings where conversation_id = ?", conversation):
        assert time.monotonic() < deadline, "the rows are still there"
        await asyncio.sleep(0.1)
    assert len(tapes(house)) == before - 2
    answer = await sue.get(f"/api/recordings/{message['id']}")
    assert answer.status_code == 404


async def test_a_server_that_is_killed_leaves_a_tape_that_plays(recorder: House) -> None:
    house, sue = recorder, Supervisor(recorder.settings)
    before = set(tapes(house))
    async with house.caller() as phone:
        call = (await house.call(phone)).call
        conversation = (await house.live()).id
        await asyncio.sleep(3.5)
        await call.play(tone(MARK, 2.0))
        await asyncio.sleep(1.2)
        await house.kill()
        [tape] = set(tapes(house)) - before
        left, _ = sides(tape.read_bytes())
        assert loudest(left, MARK) > 0.02
        await house.start()
        await house.until_entry(conversation, "resumed")
        await asyncio.sleep(4.0)
        await call.hang_up()
        await house.until_ended(conversation)
    first, second = await sue.recordings(conversation, "call")  # before the fault, and after it
    assert first["id"] == tape.stem and first["seconds"] > 4
    assert second["seconds"] > 2
