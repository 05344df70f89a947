"""What is kept of Vosk's answers, and models that it would die of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ivr.errors import SpeechError
from ivr.speech.vosk import VoskEngine, VoskUtterance


class Kaldi:
    """A recogniser that answers from a script: a final where the audio says so."""

    def __init__(self, *finals: list[tuple[str, float]]):
        self._finals = list(finals)

    def AcceptWaveform(self, pcm: bytes) -> bool:  # noqa: N802 -- Vosk's name
        return pcm == b"end"

    def PartialResult(self) -> str:  # noqa: N802
        return '{"partial": "[unk] my"}'

    def Result(self) -> str:  # noqa: N802
        words = [{"word": word, "conf": sure} for word, sure in self._finals.pop(0)]
        return json.dumps({"result": words} if words else {"text": ""})

    FinalResult = Result


def utterance(*finals: list[tuple[str, float]], language: str = "en") -> VoskUtterance:
    return VoskUtterance(lambda: Kaldi(*finals), language)


def test_parts_add_up() -> None:
    heard = utterance([("my", 1.0)], [("bill", 0.8)])
    assert heard.accept(b"") == "my"
    assert heard.accept(b"end") == "my"
    reading = heard.read()
    assert (reading.text, reading.confidence) == ("my bill", 0.9)


def test_who_goes_on_after_a_reading_is_heard_from_the_beginning() -> None:
    made: list[Kaldi] = []
    heard_by: list[bytes] = []

    class Listening(Kaldi):
        def AcceptWaveform(self, pcm: bytes) -> bool:  # noqa: N802
            heard_by.append(pcm)
            return False

    def make() -> Any:
        made.append(Listening([("my", 1.0)] if not made else [("my", 1.0), ("bill", 1.0)]))
        return made[-1]

    heard = VoskUtterance(make, "en")
    heard.accept(b"my ")
    assert heard.read().text == heard.read().text == "my", "asked twice, it says the same"
    heard.accept(b"bill")
    assert heard.read().text == "my bill"
    assert heard_by == [b"my ", b"my bill"] and len(made) == 2


def test_what_was_not_understood_costs_confidence() -> None:
    reading = utterance([("[unk]", 1.0), ("bill", 0.8)]).read()
    assert (reading.text, reading.confidence) == ("bill", 0.4)


def test_nothing_understood_is_no_text() -> None:
    assert utterance([("[unk]", 1.0)]).read().text == ""
    assert utterance([]).read().text == ""
    assert VoskUtterance(None, "en").read().text == ""


def test_chinese_is_written_without_spaces() -> None:
    assert utterance([("查询", 1.0), ("账单", 1.0)], language="zh").read().text == "查询账单"


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="has no am/final") as raised:
        VoskEngine(tmp_path, "en")
    assert str(tmp_path) in str(raised.value)
