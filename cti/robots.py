"""Robots put together: telephones with an ear and a voice, for `hotline call` and the demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from rich.console import Console

from ivr.config import Settings
from ivr.errors import HotlineError, SettingsError
from ivr.flow.events import Grammar
from ivr.ports import Clock
from ivr.speech.recognition import Recognition
from ivr.speech.tts import Voices
from ivr.telephony import pbx
from ivr.telephony.robot import Hear, RobotCaller, RobotEvent, Speak
from ivr.telephony.script import Script
from ivr.telephony.script import load_script as parse_script
from ivr.telephony.softphone import PhoneCall, Softphone

log = structlog.get_logger(__name__)

CALLER = "9001"
_LARGEST_SCRIPT = 256 * 1024


def load_script(path: Path) -> Script:
    """Read a script file. Raises SettingsError or FlowError that names the file and the line."""
    try:
        if path.stat().st_size > _LARGEST_SCRIPT:
            raise SettingsError(f"{path}: a script has at most {_LARGEST_SCRIPT} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return parse_script(text, str(path))


def phone(settings: Settings, number: str) -> Softphone:
    """A telephone of the local PBX, to be opened."""
    asterisk = settings.asterisk
    password = pbx.credentials(settings).phone(number)
    return Softphone(number, password, server=asterisk.sip_host, port=asterisk.sip_port)


@asynccontextmanager
async def senses(
    settings: Settings, clock: Clock, language: str, progress: Callable[[str], None]
) -> AsyncIterator[tuple[Hear, Speak]]:
    """What a robot hears and speaks with: a recogniser of its own and the installed voice."""
    heard_in = (language,)
    speech = settings.speech.model_copy(update={"languages": heard_in, "workers": 1})
    recognition = Recognition(settings.model_copy(update={"speech": speech}), clock)
    voices = Voices(settings)
    try:
        await recognition.start(progress)
        if not recognition.hears(language):
            raise SettingsError(f"a robot needs a recogniser for {language}: see `hotline models`")

        async def hear(pcm: bytes, expected: str) -> tuple[str, float]:
            heard = await recognition.transcribe(pcm, Grammar(language))
            return heard.text, heard.confidence

        yield hear, voices.synthesize
    finally:
        await recognition.stop()
        await voices.close()


async def call(
    settings: Settings,
    clock: Clock,
    extension: str,
    script: Script,
    emit: Callable[[RobotEvent], None],
    progress: Callable[[str], None],
) -> bool:
    """Call once and follow the script; whether all of it happened."""
    async with (
        senses(settings, clock, script.language, progress) as (hear, speak),
        phone(settings, CALLER) as telephone,
    ):
        return (await RobotCaller(telephone, extension, hear, speak, script, emit).run()).ok


def printer(out: Console, as_json: bool, who: str = "") -> Callable[[RobotEvent], None]:
    """Print each event on a line of its own."""

    def show(event: RobotEvent) -> None:
        if as_json:
            shown = {
                "t": round(event.t, 3),
                "until": round(event.until, 3),
                "kind": event.kind,
                "text": event.text,
                "ok": event.ok,
            }
            out.print(json.dumps(shown, ensure_ascii=False), markup=False)
        else:
            mark = " " if event.ok else "!"
            out.print(f"{event.t:7.2f} s {mark} {who}{event.kind:9} {event.text}", markup=False)

    return show


STAND_IN_SECONDS = 10.0
"""How long the stand-in leaves the call to whoever would answer it in the browser."""


@asynccontextmanager
async def desk_phone(settings: Settings, number: str) -> AsyncIterator[None]:
    """A stand-in for an agent's telephone, which picks up by itself and keeps silent when nobody
    answers in the page: so that a newcomer needs nothing but a browser, and no microphone."""
    async with phone(settings, number) as telephone:
        serving = asyncio.ensure_future(_pick_up(telephone))
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _pick_up(telephone: Softphone) -> None:
    while True:
        incoming: PhoneCall = await telephone.incoming()
        await asyncio.sleep(STAND_IN_SECONDS)
        with contextlib.suppress(HotlineError):
            await incoming.answer()
            await incoming.ended()
