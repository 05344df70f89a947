"""What is counted of turns, however they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from ivr.telephony.pace import GAPS, Pace


def counted(gap: str) -> float:
    return REGISTRY.get_sample_value("hotline_turn_gap_seconds_count", {"gap": gap}) or 0.0


def test_every_gap_of_a_spoken_turn_is_counted_once() -> None:
    before = {gap: counted(gap) for gap in GAPS}
    pace = Pace(lambda turn: None)
    pace.asked(1, "main", False, 0.0, playing=False)
    pace.prompt_started(0.1)
    pace.speech_started(1.0)
    pace.prompt_ended(1.05, cut=True)
    pace.result("billing", 0.9, 1.8, 2.1)
    pace.decided("answered", 2.1)
    pace.prompt_started(2.2)
    grown = {gap for gap in GAPS if counted(gap) == before[gap] + 1}
    assert grown == {
        "prompt_to_speech",
        "speech_to_silence",
        "speech_to_result",
        "result_to_prompt",
        "speech_to_prompt",
    }


def test_partials_are_kept_once_and_not_without_end() -> None:
    told: list[Mapping[str, Any]] = []
    pace = Pace(told.append)
    pace.asked(1, "main", False, 0.0, playing=True)
    for number in range(100):
        pace.partial(f"{number // 2}", float(number))
    pace.close(200.0)
    [turn] = told
    assert [one["text"] for one in turn["partials"]] == [str(n) for n in range(20)]


_STEPS = st.sampled_from(
    ["asked", "started", "ended", "cut", "speech", "partial", "result", "key", "decided"]
)


@given(st.lists(_STEPS, max_size=40))
def test_each_question_is_told_of_once_in_whatever_order_things_come(steps: list[str]) -> None:
    told: list[Mapping[str, Any]] = []
    pace = Pace(told.append)
    questions = 0
    for number, step in enumerate(steps):
        now = float(number)
        match step:
            case "asked":
                questions += 1
                pace.asked(questions, "main", bool(number % 2), now, playing=bool(number % 3))
            case "started":
                pace.prompt_started(now)
            case "ended" | "cut":
                pace.prompt_ended(now, cut=step == "cut")
            case "speech":
                pace.speech_started(now)
            case "partial":
                pace.partial("a", now)
            case "result":
                pace.result("a", 0.5, now, now)
            case "key":
                pace.key(now)
            case "decided":
                pace.decided("answered", now)
    pace.close(float(len(steps)))
    assert sorted(turn["turn"] for turn in told) == list(range(1, questions + 1))
    assert not any("event" in turn or "cut" in turn for turn in told)  # for a replay's sake
