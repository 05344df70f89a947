"""Phrases: what a designer's patterns stand for, and what heard and typed texts mean by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.flow import phrases


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("billing", {"billing"}),
        ("[my] (bill|billing)", {"bill", "my bill", "billing", "my billing"}),
        ("(pay [my] bill|payment)", {"pay bill", "pay my bill", "payment"}),
        ("[[very] big] leak", {"leak", "big leak", "very big leak"}),
        ("Yes, please!", {"yes please"}),
        ("[我要]查账", {"查账", "我要查账"}),
        ("(报|维)修", {"报修", "维修"}),
    ],
)
def test_a_pattern_stands_for_its_phrases(pattern: str, expected: set[str]) -> None:
    assert set(phrases.expand(pattern)) == expected


def test_the_plainest_phrase_comes_first_and_is_the_label() -> None:
    assert phrases.expand("[my] (bill|billing)")[0] == "bill"
    assert phrases.label("[my] (Bill|billing)") == "Bill"


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "  ", "[]", "()", "!!", "a)", "(a", "a]", "[a", "(a]", "a|b", "(a|b"),
        *("(" * 9 + "a" + ")" * 9, "x" * 301, "(a|b|c|d)" * 8),
    ],
)
def test_a_pattern_that_is_wrong_is_refused_in_one_line(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        phrases.expand(pattern)
    assert "\n" not in str(refused.value)


@given(st.text(alphabet="ab ()[]|账单,", max_size=60))
def test_any_pattern_expands_or_is_refused(pattern: str) -> None:
    try:
        found = phrases.expand(pattern)
    except ValueError:
        return
    assert 0 < len(found) <= phrases.LIMIT
    assert all(phrases.normalise(phrase) == phrase for phrase in found)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  My   BILL. ", "my bill"),
        ("１２３", "123"),
        ("账 单 ！", "账单"),
        ("我要 查账，谢谢。", "我要查账谢谢"),
        ("don’t", "don't"),
        ("e-mail", "e mail"),
        ("ｂｉｌｌ　please", "bill please"),
        ("第 3 个", "第 3 个"),
    ],
)
def test_texts_are_compared_in_one_normal_form(text: str, normal: str) -> None:
    assert phrases.normalise(text) == normal
    assert phrases.normalise(normal) == normal


MEANINGS = {"bill": "billing", "my bill": "billing", "repairs": "repairs", "go back": "back"} | {
    "back": "rear",
    "账单": "billing",
    "报修": "repairs",
    "不": "no",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my bill", ("billing", True)),
        ("i want my bill please", ("billing", False)),
        ("the bill or repairs", None),
        ("go back", ("back", True)),
        ("please go back", ("back", False)),
        ("billing", None),
        ("我要查账单", ("billing", False)),
        ("不知道", None),
        ("", None),
    ],
)
def test_a_text_means_a_phrase_that_it_is_or_contains(
    text: str, expected: tuple[str, bool] | None
) -> None:
    assert phrases.find(text, MEANINGS) == expected
