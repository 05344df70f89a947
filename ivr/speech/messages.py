"""vosk-server's WebSocket messages as both ends need them, with what only our worker knows.

A stock server takes `phrase_list` and answers `{"partial"}` and `{"text", "result": [{"conf"}]}`.
It ignores what is ours: `phrases`, `word_list` and `quiet` in the configuration. Our worker's
results carry `confidence` and `alternatives` as well, and `peek` where more audio may follow.
"""

from __future__ import annotations

import json
from typing import Any

from ivr.errors import RemoteProtocolError
from ivr.flow.events import Grammar
from ivr.flow.spoken import KINDS
from ivr.ports import SAMPLE_RATE
from ivr.speech.engines import Reading

END = json.dumps({"eof": 1})
PEEK = json.dumps({"peek": 1})

_MOST_PHRASES = 5000
_MOST_DIGITS = 100
_CONFIDENCE_UNTOLD = 0.8

# --- to the recogniser ---------------------------------------------------------------------------


def config_message(grammar: Grammar) -> str:
    """What a vosk-server takes, and beside it what only our worker knows."""
    config: dict[str, Any] = {"sample_rate": SAMPLE_RATE, "words": True, "quiet": True}
    said = list(dict.fromkeys((*grammar.phrases, *grammar.words)))
    if said:
        config["phrase_list"] = [*said, "[unk]"]
        config["phrases"] = list(grammar.phrases)
        config["word_list"] = list(grammar.words)
    if grammar.kind:
        config["value"] = {
            "kind": grammar.kind,
            "minimum": grammar.minimum,
            "maximum": grammar.maximum,
        }
    return json.dumps({"config": config}, ensure_ascii=False)


def parse_config(message: dict[str, Any], language: str) -> Grammar:
    """The grammar in a configuration message. Raises RemoteProtocolError."""
    config = message["config"]
    if not isinstance(config, dict):
        raise RemoteProtocolError("config: not an object")
    rate = config.get("sample_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise RemoteProtocolError(f"config: sample_rate {rate!r}: only {SAMPLE_RATE} is taken")
    stock = _texts(config, "phrase_list")
    phrases = _texts(config, "phrases") if "phrases" in config else stock
    return Grammar(language, phrases, _texts(config, "word_list"), *_value(config))


def _value(config: dict[str, Any]) -> tuple[str, int, int]:
    value = config.get("value", {"kind": ""})
    if not isinstance(value, dict) or value.get("kind") not in ("", *KINDS):
        raise RemoteProtocolError("config: value: not a kind of slot")
    bounds = (value.get("minimum", 0), value.get("maximum", 0))
    if not all(type(bound) is int and 0 <= bound <= _MOST_DIGITS for bound in bounds):
        raise RemoteProtocolError(f"config: value: bounds are from 0 to {_MOST_DIGITS}")
    return value["kind"], *bounds


def _texts(config: dict[str, Any], key: str) -> tuple[str, ...]:
    texts = config.get(key, [])
    if isinstance(texts, str):  # stock servers take a JSON list in a string too
        try:
            texts = json.loads(texts)
        except ValueError:
            texts = None
    if not isinstance(texts, list) or len(texts) > _MOST_PHRASES:
        raise RemoteProtocolError(f"config: {key}: not a list of at most {_MOST_PHRASES} texts")
    if not all(isinstance(text, str) and 0 < len(text) <= 200 for text in texts):
        raise RemoteProtocolError(f"config: {key}: a text has 1 to 200 characters")
    return tuple(text for text in texts if text != "[unk]")


# --- from the recogniser -------------------------------------------------------------------------


def result_message(reading: Reading, peek: bool = False) -> str:
    """A result as JSON: the stock fields, and ours."""
    words = reading.text.split()
    message: dict[str, Any] = {
        "text": reading.text,
        "result": [{"word": word, "conf": reading.confidence} for word in words],
        "confidence": reading.confidence,
        "alternatives": [
            {"text": text, "confidence": confidence} for text, confidence in reading.alternatives
        ],
    }
    return json.dumps(message | {"peek": 1} if peek else message, ensure_ascii=False)


def parse_message(message: str | bytes) -> dict[str, Any]:
    """A recogniser's message. Raises RemoteProtocolError."""
    try:
        parsed = json.loads(message)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise RemoteProtocolError("the recogniser sent no JSON object")
    if "error" in parsed:
        raise RemoteProtocolError(f"the recogniser says: {str(parsed['error'])[:200]}")
    return parsed


def parse_result(message: dict[str, Any], language: str) -> Reading:
    """A result, of ours or of a stock server's. Raises RemoteProtocolError."""
    try:
        text = plain(str(message["text"]), language)
        if "confidence" in message:
            others = tuple(
                (str(one["text"]), float(one["confidence"])) for one in message["alternatives"]
            )
            return Reading(text, float(message["confidence"]), others)
        words = [(str(one["word"]), float(one["conf"])) for one in message.get("result", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteProtocolError(f"the recogniser sent a malformed result: {error!r}") from None
    if not text:
        return Reading("", 0.0)
    if not words:
        return Reading(text, _CONFIDENCE_UNTOLD)
    sure = [0.0 if word == "[unk]" else confidence for word, confidence in words]
    return Reading(text, min(1.0, sum(sure) / len(sure)))


def plain(text: str, language: str) -> str:
    words = [word for word in text.split() if word != "[unk]"]
    return ("" if language == "zh" else " ").join(words)


def joined(readings: list[Reading], language: str) -> Reading:
    """Several results of one utterance as one."""
    if len(readings) == 1:
        return readings[0]
    said = [one for one in readings if one.text]
    if not said:
        return Reading("", 0.0)
    text = ("" if language == "zh" else " ").join(one.text for one in said)
    return Reading(text, sum(one.confidence for one in said) / len(said))
