"""Logs and metrics: what an operator sees, with nothing in it that a caller said in secret."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from prometheus_client import Counter, Gauge, Histogram

_SECRET_KEYS = frozenset({"password", "secret", "token", "pin", "authorization", "code"})

_FAST = (
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.35,
    0.5,
    0.6,
    0.75,
    1.0,
    2.0,
    5.0,
)

CALLS = Gauge("hotline_calls", "Calls in the hotline now")
CALLS_TOTAL = Counter("hotline_calls_taken_total", "Calls taken since start")
CONVERSATIONS = Gauge("hotline_conversations", "Conversations that go on in this process now")
TASKS = Gauge("hotline_tasks", "Tasks on the event loop now")
AUDIO_SOCKETS = Gauge("hotline_audio_sockets", "Audio connections from Asterisk now")
AMI_UP = Gauge("hotline_ami_up", "1 while the manager link to Asterisk is live")
SOFTPHONES = Gauge(
    "hotline_softphone_registered", "Extensions of another PBX that are registered now"
)
SOFTPHONE_REFUSED = Counter(
    "hotline_softphone_refused_total", "Calls to those extensions refused: too many at once"
)
WAITING = Gauge("hotline_queue_waiting", "Conversations that wait for a person now")
WAITING_BY_KIND = Gauge(
    "hotline_waiting", "Conversations that wait for a person now, over all servers", ["kind"]
)
LONGEST_WAIT = Gauge("hotline_longest_wait_seconds", "The longest wait of those who wait now")
OFFERS = Counter(
    "hotline_offers_total",
    "Customers offered to this server's agents, by what became of it",
    ["kind", "outcome"],
)
BUS_UP = Gauge("hotline_bus_up", "1 while news from and to the other servers flow")
BUS_LOST = Counter("hotline_bus_lost_total", "News for other servers that could not be sent")
REFUSED = Counter(
    "hotline_refused_total",
    "Who was not let in, by the reason: password, guessing, token, role or origin",
    ["reason"],
)
WALLBOARD = Histogram(
    "hotline_wallboard_seconds",
    "Working out what all wallboards show, once a second",
    buckets=_FAST,
)
WEBHOOKS = Counter(
    "hotline_webhook_attempts_total",
    "Attempts to tell other programs, by what became of it: delivered, failed or dead",
    ["hook", "outcome"],
)
SCREENS = Gauge("hotline_agent_screens", "Agents' screens connected now")
CHATS = Gauge("hotline_chat_pages", "Customers' chat connections open now")
FIRST_PROMPT = Histogram(
    "hotline_first_prompt_seconds", "From answering a call to its first sample", buckets=_FAST
)
KEY_TO_PROMPT = Histogram(
    "hotline_key_to_prompt_seconds", "From a key to the next prompt's first sample", buckets=_FAST
)
SPEECH_TO_PROMPT = Histogram(
    "hotline_speech_to_prompt_seconds",
    "From the end of speech to the next prompt's first sample",
    buckets=_FAST,
)
RECOGNITION = Histogram(
    "hotline_recognition_seconds",
    "From the end of an utterance to its text",
    ["engine"],
    buckets=_FAST,
)
TURN_GAP = Histogram(
    "hotline_turn_gap_seconds",
    "Between two moments of a question and its answer: speech_to_result, key_to_prompt …",
    ["gap"],
    buckets=(*_FAST, 10.0, 20.0),
)
SPEECH_FAILURES = Counter(
    "hotline_speech_failures_total", "Utterances lost to a recogniser's fault", ["reason"]
)
SPEECH_STATE = Gauge(
    "hotline_speech_state",
    "1 for how a language's recognition fares now: ready, shedding or dead",
    ["language", "state"],
)
SPEECH_SHED = Counter(
    "hotline_speech_shed_total", "Times that recognition could not keep up", ["language"]
)
QUESTIONS = Counter(
    "hotline_spoken_questions_total",
    "Questions to callers that may be answered by speech, by how they were put: speech or keys",
    ["by"],
)
SENTENCE = Histogram(
    "hotline_sentence_seconds",
    "From asking for a sentence to its first sample",
    ["source"],
    buckets=_FAST,
)
VOICE_FAULTS = Counter(
    "hotline_voice_faults_total", "Times that a voice's process failed", ["voice", "fault"]
)
RECORDINGS = Gauge("hotline_recordings", "Calls that are being recorded now")
RECORDING_FAILURES = Counter(
    "hotline_recording_failures_total",
    "Recordings and messages that are missing or not whole",
    ["reason"],
)
POP = Histogram(
    "hotline_pop_seconds",
    "From the queue's choice of an agent to the pop on the screen",
    buckets=_FAST,
)
TICK_LATE = Histogram(
    "hotline_tick_late_seconds",
    "How late the 20 ms audio clock ticked",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)
LOOP_BLOCKED = Histogram(
    "hotline_loop_blocked_seconds",
    "How long the event loop got to nothing, looked at every 20 ms",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if key in _SECRET_KEYS:
            event[key] = "[redacted]"
    return event


def configure_logging(form: Literal["text", "json"], level: str) -> None:
    """Send structlog and the standard library's loggers to standard error, one line an event."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s"
    )
