"""Where utterances begin and end, frame by frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech.endpoint import Edge, Endpointer, Patience

PATIENCE = Patience(complete=0.3, incomplete=1.2, longest=5.0)


def edges(endpointer: Endpointer, pattern: str) -> list[tuple[int, Edge]]:
    """Feed `#` as speech and `.` as silence; which frame changed what."""
    found = []
    for number, sign in enumerate(pattern, 1):
        edge = endpointer.feed(sign == "#")
        if edge is not None:
            found.append((number, edge))
    return found


def test_speech_counts_from_its_second_frame() -> None:
    assert edges(Endpointer(PATIENCE), "." * 20 + "#" * 10) == [(22, Edge.BEGAN)]


@pytest.mark.parametrize("noise", ["#", "#..#..#", "#.......#.......#"])
def test_a_single_frame_now_and_then_does_not(noise: str) -> None:
    assert edges(Endpointer(PATIENCE), noise + "." * 20) == []


def test_a_gap_in_the_first_sound_does_not_matter() -> None:
    assert edges(Endpointer(PATIENCE), "#.#") == [(3, Edge.BEGAN)]


def test_the_onset_is_where_speech_began() -> None:
    endpointer = Endpointer(PATIENCE)
    edges(endpointer, "....#.#")
    assert endpointer.speaking
    assert endpointer.since_onset == 3


@pytest.mark.parametrize(
    ("progress", "seconds"),
    [("none", 1.2), ("partial", 1.2), ("full", 0.3), ("final", 0.2)],
)
def test_how_far_the_answer_has_come_decides_how_long_to_wait(
    progress: str, seconds: float
) -> None:
    endpointer = Endpointer(PATIENCE)
    edges(endpointer, "#" * 20)
    endpointer.progress = progress
    (*_, (frame, edge)) = edges(endpointer, "." * 100)
    assert edge is Edge.ENDED
    assert frame * 0.02 == pytest.approx(seconds)


def test_a_text_that_becomes_known_in_the_pause_shortens_it() -> None:
    endpointer = Endpointer(PATIENCE)
    assert edges(endpointer, "#" * 20 + "." * 30) == [(2, Edge.BEGAN), (30, Edge.PAUSED)]
    endpointer.progress = "final"
    assert edges(endpointer, ".") == [(1, Edge.ENDED)]


def test_speech_after_a_pause_goes_on_with_the_same_utterance() -> None:
    found = edges(Endpointer(PATIENCE), "#" * 10 + "." * 20 + "#" * 10 + "." * 60)
    assert [edge for _, edge in found] == [
        Edge.BEGAN,
        Edge.PAUSED,
        Edge.RESUMED,
        Edge.PAUSED,
        Edge.ENDED,
    ]


def test_a_breath_in_the_pause_does_not_prolong_it() -> None:
    found = edges(Endpointer(PATIENCE), "#" * 10 + "." * 30 + "#" + "." * 29)
    assert [edge for _, edge in found] == [Edge.BEGAN, Edge.PAUSED, Edge.ENDED]


def test_an_endless_utterance_ends() -> None:
    found = edges(Endpointer(PATIENCE), "#" * 250)
    assert found == [(2, Edge.BEGAN), (250, Edge.ENDED)]


def test_the_next_utterance_is_found_too() -> None:
    endpointer = Endpointer(PATIENCE)
    once = "#" * 20 + "." * 60
    assert len(edges(endpointer, once)) == len(edges(endpointer, once)) == 3


@given(st.lists(st.booleans(), max_size=800), st.sampled_from(["none", "full", "final"]))
def test_edges_come_in_an_order_that_makes_sense(frames: list[bool], progress: str) -> None:
    allowed = {
        None: {Edge.BEGAN},
        Edge.BEGAN: {Edge.PAUSED, Edge.ENDED},
        Edge.PAUSED: {Edge.RESUMED, Edge.ENDED},
        Edge.RESUMED: {Edge.PAUSED, Edge.ENDED},
        Edge.ENDED: {Edge.BEGAN},
    }
    endpointer = Endpointer(PATIENCE)
    last: Edge | None = None
    for frame in frames:
        edge = endpointer.feed(frame)
        if edge is not None:
            assert edge in allowed[last]
            last = edge
        if edge is Edge.PAUSED:
            endpointer.progress = progress
        assert endpointer.speaking == (last not in (None, Edge.ENDED))
