"""When recognition cannot keep up, speech is not offered; when it can again, it is, by itself."""

from __future__ import annotations

import heapq
import itertools

import pytest

from ivr.speech.load import CALM_SECONDS, LIMIT, Load, Work


def load(workers: int = 1, seconds: float = 0.4) -> Load:
    return Load(lambda: workers, seconds)


def begin(load: Load, count: int) -> list[Work]:
    return [load.utterance() for _ in range(count)]


def test_a_few_utterances_are_no_load() -> None:
    hotline = load()
    begin(hotline, 3)
    assert hotline.takes() and not hotline.shedding(0)


@pytest.mark.parametrize("workers", [1, 4])
def test_more_than_is_read_in_time_is(workers: int) -> None:
    hotline = load(workers)
    under_way = begin(hotline, 4 * workers)
    assert not hotline.takes(), "1.6 s until its turn"
    assert hotline.shedding(0)
    under_way.pop().over(0)
    assert hotline.takes(), "whoever is already asked by speech is let in while there is room"
    assert hotline.shedding(0), "but nobody new is asked"


def test_speech_is_offered_again_after_a_calm_while() -> None:
    hotline = load()
    under_way = begin(hotline, 4)
    assert hotline.shedding(0)
    for work in under_way:
        work.over(2)
    assert hotline.shedding(1)
    assert hotline.shedding(CALM_SECONDS - 0.01)
    assert not hotline.shedding(1 + CALM_SECONDS)


def test_a_calm_that_is_broken_begins_anew() -> None:
    hotline = load()
    under_way = begin(hotline, 4)
    assert hotline.shedding(0)
    under_way[0].over(1)
    assert hotline.shedding(CALM_SECONDS - 1), "three are in hand, which is over half the limit"
    for work in under_way:
        work.over(2)
    assert hotline.shedding(CALM_SECONDS + 1)
    assert not hotline.shedding(2 * CALM_SECONDS)


def test_what_an_utterance_costs_is_learnt_without_the_wait_for_the_others() -> None:
    hotline = load(seconds=0.1)
    for _ in range(30):
        works = begin(hotline, 3)
        for work in works:
            work.asked(0)
        for number, work in enumerate(works, 1):
            work.answered(0.5 * number)
            work.over(2)
    assert hotline.seconds == pytest.approx(0.5, abs=0.05), "all at once: 0.5 s were its own"


def test_each_reading_of_an_utterance_counts() -> None:
    hotline = load(seconds=0.2)
    for _ in range(30):
        work = hotline.utterance()
        for at in (1, 2, 3):
            work.asked(at)
            work.answered(at + 0.1)
        work.over(2)
    assert hotline.seconds == pytest.approx(0.3, abs=0.01)


def test_a_result_that_is_late_behind_others_is_a_load_too() -> None:
    hotline = load(seconds=0.01)
    for work in begin(hotline, 2):
        work.asked(0)
    assert not hotline.shedding(LIMIT)
    assert hotline.shedding(LIMIT + 0.1)


def test_who_waits_alone_waits_for_a_recogniser_that_hangs() -> None:
    hotline = load(seconds=0.01)
    (work,) = begin(hotline, 1)
    work.asked(0)
    assert not hotline.shedding(60)


def test_what_is_given_up_is_no_load_any_more() -> None:
    hotline = load()
    under_way = begin(hotline, 5)
    for work in under_way:
        work.asked(0)
        work.over(2)
        work.over(2)
        work.asked(1)
        work.answered(2)
    assert hotline.in_hand == 0 and hotline.wait == 0
    assert hotline.seconds == 0.4
    assert not hotline.shedding(100)


def test_however_slow_it_was_the_next_utterance_is_let_in() -> None:
    hotline = load(seconds=60)
    assert hotline.takes() and not hotline.shedding(0)


def test_what_is_given_up_behind_others_shows_what_it_would_have_cost() -> None:
    hotline = load()
    under_way = begin(hotline, 2)
    for work in under_way:
        work.asked(0)
    under_way[1].over(4)
    assert hotline.seconds == pytest.approx(1.2), "half of these 4 s, and half believed at once"
    under_way[0].over(4)
    assert hotline.seconds == pytest.approx(1.2), "whoever waits alone waits for one that hangs"


def test_a_rise_in_cost_is_believed_sooner_than_a_fall() -> None:
    dearer, cheaper = load(seconds=0.2), load(seconds=2)
    for hotline, cost in ((dearer, 2.0), (cheaper, 0.2)):
        for _ in range(2):
            work = hotline.utterance()
            work.asked(0)
            work.answered(cost)
            work.over(cost)
    assert dearer.seconds > cheaper.seconds


def test_stray_answers_do_no_harm() -> None:
    hotline = load()
    work = hotline.utterance()
    work.answered(1)
    work.over(2)
    assert hotline.seconds == 0.4


@pytest.mark.parametrize("callers", [2, 40, 200])
@pytest.mark.parametrize("cost", [0.1, 0.4, 1.2])
@pytest.mark.parametrize("workers", [1, 4])
def test_whoever_is_let_in_is_read_in_time(callers: int, cost: float, workers: int) -> None:
    """All callers answer over and over: 2 s of speech, then a reading that costs so much."""
    hotline = load(workers)
    numbers = itertools.count()
    agenda: list[tuple[float, int, str, Work | None]] = []

    def plan(at: float, what: str, work: Work | None = None) -> None:
        heapq.heappush(agenda, (at, next(numbers), what, work))

    free_at = [0.0] * workers
    asked: dict[Work, float] = {}
    delays: list[tuple[float, float]] = []
    for caller in range(callers):
        plan(caller * 0.01, "speaks")
    while agenda and agenda[0][0] < 120:
        now, _, what, work = heapq.heappop(agenda)
        match what, work:
            case "speaks", None:
                hotline.shedding(now)
                if hotline.takes():
                    plan(now + 2, "asks", hotline.utterance())
                else:
                    plan(now + 3, "speaks")
            case "asks", Work():
                work.asked(now)
                asked[work] = now
                turn = max(now, heapq.heappop(free_at))
                heapq.heappush(free_at, turn + cost)
                plan(turn + cost, "answered", work)
            case "answered", Work():
                work.answered(now)
                work.over(now)
                delays.append((now, now - asked[work]))
                plan(now + 3, "speaks")
    learnt = [delay for at, delay in delays if at > 20]
    assert len(learnt) > 0.4 * min(callers / (5 + cost), workers / cost) * 100, "and it is used"
    assert max(learnt) <= LIMIT + 2 * cost + 0.5
