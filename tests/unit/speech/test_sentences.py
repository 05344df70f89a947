"""A prompt is cut where a reader would breathe, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.speech.sentences import LONGEST, sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("You owe 12.50 dollars. Bye!", ["You owe 12.50 dollars.", "Bye!"]),
        ("您好。请说账单，或按1。", ["您好。", "请说账单，或按1。"]),
        ("No end", ["No end"]),
        ("  \n ", []),
        ("One\nTwo", ["One", "Two"]),
        ("Dr. Smith is in. Hold on.", ["Dr. Smith is in.", "Hold on."]),
        ("Ask for Mrs. J. P. Jones. Bye.", ["Ask for Mrs. J. P. Jones.", "Bye."]),
        ("From 9 a.m. to 5 p.m. on Mondays.", ["From 9 a.m. to 5 p.m. on Mondays."]),
        ("Pi is 3.14. Press 1. Or wait.", ["Pi is 3.14.", "Press 1.", "Or wait."]),
        ("Gate No. 5 is shut. No. Try again.", ["Gate No. 5 is shut.", "No.", "Try again."]),
        ("See St. Mary's, i.e. the church.", ["See St. Mary's, i.e. the church."]),
        ("That is, e.g. Monday. Really?! Yes.", ["That is, e.g. Monday.", "Really?!", "Yes."]),
        ("Wait... Then go.", ["Wait...", "Then go."]),
        ('Say "yes." Or "no."', ['Say "yes."', 'Or "no."']),
        ("请说“好。”谢谢！", ["请说“好。”", "谢谢！"]),
        ("价格是3.14元；数量12.5。好吗？好", ["价格是3.14元；", "数量12.5。", "好吗？", "好"]),
        ("Done. … !", ["Done."]),
    ],
)
def test_texts_are_cut_at_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_what_is_too_long_is_cut_at_commas_and_at_last_anywhere() -> None:
    parts = sentences("one two three, " * 40)
    assert len(parts) > 1 and all(part.endswith(",") for part in parts)
    assert list(map(len, sentences("啊" * 700))) == [300, 300, 100]


@given(st.text(max_size=2000) | st.text("Dr. 1。，\n\"'a.A!?…", max_size=700))
def test_cutting_loses_no_letter_and_makes_nothing_too_long(text: str) -> None:
    parts = sentences(text)
    assert all(0 < len(part) <= LONGEST for part in parts)
    assert all(any(map(str.isalnum, part)) for part in parts)
    letters = [one for one in text if one.isalnum()]
    assert [one for part in parts for one in part if one.isalnum()] == letters
