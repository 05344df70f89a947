"""What people say and type means what a person would understand, in both languages."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ivr.flow import spoken

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)  # a Friday
MENU = {
    "billing": ["[my] (bill|billing)", "payment", "账单", "查账"],
    "repairs": ["repairs", "repair", "报修", "维修"],
    "agent": ["agent", "operator", "a person", "人工", "客服"],
}


Case = tuple[str, str, Any, str]


def cases(language: str) -> list[Case]:
    """The language's table: kind, text, the value, and the length or the options wanted."""
    path = Path(__file__).with_name(f"spoken_{language}.tsv")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [
        (kind, text, json.loads(value), wanted)
        for kind, text, value, wanted in (row for row in rows if not row[0].startswith("#"))
    ]


def understood(case: Case, language: str) -> Any:
    kind, text, _, wanted = case
    low, _, high = wanted.partition("-")
    lengths = (int(low), int(high or low)) if low.isdigit() else (0, 0)
    return spoken.parse(
        kind,
        text,
        language,
        now=NOW,
        minimum=lengths[0],
        maximum=lengths[1],
        options=MENU if wanted == "menu" else None,
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_table_has_its_cases(language: str) -> None:
    assert len({(kind, text, wanted) for kind, text, _, wanted in cases(language)}) >= 300


@pytest.mark.parametrize("kind", spoken.KINDS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_text_means_what_a_person_would_understand(language: str, kind: str) -> None:
    table = [case for case in cases(language) if case[0] == kind]
    wrong = {
        case[1]: (found, "instead of", case[2])
        for case in table
        if (found := understood(case, language)) != case[2] or type(found) is not type(case[2])
    }
    assert not wrong
    assert table


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "keys", "value"),
    [
        ("digits", "12345678", "12345678"),
        ("digits", "0012", "0012"),
        ("digits", "12*", None),
        ("number", "42", 42),
        ("number", "4*5", 4.5),
        ("money", "12", 12.0),
        ("money", "12*5", 12.5),
        ("money", "12*50", 12.5),
        ("money", "12*505", None),
        ("money", "*5", 0.5),
        ("money", "1*2*3", None),
        ("date", "0305", "2027-03-05"),
        ("date", "1120", "2026-11-20"),
        ("date", "2512", None),
        ("date", "20270305", "2027-03-05"),
        ("date", "03052027", "2027-03-05"),
        ("date", "05032027", "2027-05-03"),
        ("date", "0230", None),
        ("date", "305", None),
        ("date", "0229", "2028-02-29"),
        ("time", "1530", "15:30"),
        ("time", "0330", "03:30"),
        ("time", "330", "15:30"),
        ("time", "9", "09:00"),
        ("time", "3", "15:00"),
        ("time", "03", "03:00"),
        ("time", "2560", None),
        ("phone", "4155552671", "+14155552671"),
        ("phone", "13800138000", "+8613800138000"),
        ("phone", "8001", "8001"),
        ("yes_no", "1", True),
        ("yes_no", "2", False),
        ("yes_no", "3", None),
        ("choice", "2", "repairs"),
        ("choice", "4", None),
        ("text", "123", None),
        ("digits", "", None),
    ],
)
def test_keys_are_read_as_entries(kind: str, keys: str, value: Any) -> None:
    language = "zh" if keys.startswith("138") else "en"
    found = spoken.parse_keys(kind, keys, language=language, now=NOW, options=MENU)
    assert found == value
    assert type(found) is type(value)


def test_eight_keys_are_read_year_first_or_year_last() -> None:
    # No year from 1900 to 2199 begins as a month does, so eight keys read one way only.
    assert spoken.parse_keys("date", "20121212", language="en", now=NOW) == "2012-12-12"
    assert spoken.parse_keys("date", "12122012", language="en", now=NOW) == "2012-12-12"
    assert spoken.parse_keys("date", "12124012", language="en", now=NOW) is None


def test_lengths_bound_keys() -> None:
    assert spoken.parse_keys("digits", "123", language="en", now=NOW, minimum=4) is None
    assert spoken.parse_keys("digits", "12345", language="en", now=NOW, maximum=4) is None


# --- what a recogniser needs --------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", ["digits", "number", "money", "date", "time", "phone", "yes_no"])
def test_every_kind_has_a_vocabulary_of_plain_words(kind: str, language: str) -> None:
    words = spoken.words(kind, language)
    assert words
    assert len(set(words)) == len(words)
    assert all(word == word.lower() and " " not in word for word in words)


@pytest.mark.parametrize(
    ("kind", "language", "needed"),
    [
        ("digits", "en", "zero oh one nine double triple eleven twenty ninety hundred"),
        ("digits", "zh", "零 一 二 九 十 百 千 幺 两"),
        ("date", "en", "january december first twentieth monday next tomorrow twenty oh of the"),
        ("date", "zh", "月 号 年 周 星期 明天 大后天 十 下"),
        ("time", "en", "o'clock half past quarter to noon midnight pm thirty oh"),
        ("time", "zh", "点 半 一刻 下午 两 十 分"),
        ("money", "en", "dollars cents fifty and point"),
        ("money", "zh", "块 毛 分 元 百 两 点"),
    ],
)
def test_the_vocabulary_holds_what_answers_are_made_of(
    kind: str, language: str, needed: str
) -> None:
    assert set(needed.split()) <= set(spoken.words(kind, language))


def test_whole_phrases_answer_yes_or_no() -> None:
    assert {"yes", "yeah", "no", "no thanks"} <= set(spoken.phrases("yes_no", "en"))
    assert {"是", "对", "不是", "不对", "好"} <= set(spoken.phrases("yes_no", "zh"))
    for language in ("en", "zh"):
        for phrase in spoken.phrases("yes_no", language):
            assert spoken.parse("yes_no", phrase, language, now=NOW) is not None, phrase


def test_a_choice_is_heard_by_its_phrases() -> None:
    assert "my bill" in spoken.phrases("choice", "en", MENU)
    assert "账单" in spoken.phrases("choice", "zh", MENU)


@pytest.mark.parametrize(
    ("kind", "text", "lengths", "expected"),
    [
        ("digits", "", (8, 8), "none"),
        ("digits", "hello", (8, 8), "none"),
        ("digits", "one two", (8, 8), "partial"),
        ("digits", "one two three four five six seven eight", (8, 8), "final"),
        ("digits", "one two three four five six seventy", (8, 8), "full"),
        ("digits", "one two three four", (4, 6), "full"),
        ("digits", "one two three", (0, 0), "full"),
        ("date", "march", (0, 0), "partial"),
        ("date", "march third", (0, 0), "full"),
        ("date", "tomorrow", (0, 0), "final"),
        ("time", "half past", (0, 0), "partial"),
        ("time", "three", (0, 0), "full"),
        ("time", "three p m", (0, 0), "final"),
        ("money", "twelve dollars", (0, 0), "full"),
        ("yes_no", "yes", (0, 0), "full"),
        ("yes_no", "banana", (0, 0), "none"),
        ("phone", "four one five", (0, 0), "full"),
        ("phone", "four one five five five five two six seven one", (0, 0), "final"),
        ("text", "anything", (0, 0), "full"),
    ],
)
def test_progress_in_english(kind: str, text: str, lengths: tuple[int, int], expected: str) -> None:
    found = spoken.progress(kind, text, "en", minimum=lengths[0], maximum=lengths[1])
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "text", "lengths", "expected"),
    [
        ("digits", "一二三", (8, 8), "partial"),
        ("digits", "一二三四五六七八", (8, 8), "final"),
        ("date", "下周", (0, 0), "partial"),
        ("date", "明天", (0, 0), "final"),
        ("date", "三月五号", (0, 0), "full"),
        ("time", "两点半", (0, 0), "final"),
        ("time", "两点", (0, 0), "full"),
        ("yes_no", "对", (0, 0), "full"),
    ],
)
def test_progress_in_chinese(kind: str, text: str, lengths: tuple[int, int], expected: str) -> None:
    found = spoken.progress(kind, text, "zh", minimum=lengths[0], maximum=lengths[1])
    assert found == expected


def test_progress_of_a_choice() -> None:
    options = {"bill": ["bill"], "payment": ["bill payment"]}
    assert spoken.progress("choice", "bill", "en", options=options) == "full"
    assert spoken.progress("choice", "bill payment", "en", options=options) == "final"
    assert spoken.progress("choice", "pay", "en", options=options) == "partial"
    assert spoken.progress("choice", "pizza", "en", options=options) == "none"


# --- saying -------------------------------------------------------------------------------------

SAID = [
    # format, value, English said, English printed, Chinese said, Chinese printed
    ("money", 12.5, "twelve dollars and fifty cents", "$12.50", "十二元五角", "12.50元"),
    ("money", 1, "one dollar", "$1.00", "一元", "1.00元"),
    ("money", 0, "zero dollars", "$0.00", "零元", "0.00元"),
    ("money", 0.01, "one cent", "$0.01", "一分", "0.01元"),
    ("money", 12.05, "twelve dollars and five cents", "$12.05", "十二元零五分", "12.05元"),
    ("money", -5, "minus five dollars", "-$5.00", "负五元", "-5.00元"),
    ("money", 1234.5, "one thousand two hundred thirty four dollars and fifty cents", "$1,234.50",
     "一千二百三十四元五角", "1,234.50元"),
    ("money", 2, "two dollars", "$2.00", "两元", "2.00元"),
    ("money", "12.50", "twelve dollars and fifty cents", "$12.50", "十二元五角", "12.50元"),
    ("digits", "12345678", "one two three four five six seven eight", "12345678",
     "一二三四五六七八", "12345678"),
    ("digits", "007", "zero zero seven", "007", "零零七", "007"),
    ("digits", "+1415", "plus one four one five", "+1415", "加一四一五", "+1415"),
    ("number", 305, "three hundred five", "305", "三百零五", "305"),
    ("number", 12.5, "twelve point five", "12.5", "十二点五", "12.5"),
    ("number", -4, "minus four", "-4", "负四", "-4"),
    ("number", 12.0, "twelve", "12", "十二", "12"),
    ("number", 10, "ten", "10", "十", "10"),
    ("number", 110, "one hundred ten", "110", "一百一十", "110"),
    ("number", 1234567, "one million two hundred thirty four thousand five hundred sixty seven",
     "1,234,567", "一百二十三万四千五百六十七", "1,234,567"),
    ("number", 2, "two", "2", "二", "2"),
    ("number", 22, "twenty two", "22", "二十二", "22"),
    ("number", 200, "two hundred", "200", "两百", "200"),
    ("number", 1202, "one thousand two hundred two", "1,202", "一千二百零二", "1,202"),
    ("number", 2200, "two thousand two hundred", "2,200", "两千二百", "2,200"),
    ("money", 2, "two dollars", "$2.00", "两元", "2.00元"),
    ("money", 20, "twenty dollars", "$20.00", "二十元", "20.00元"),
    ("money", 200, "two hundred dollars", "$200.00", "两百元", "200.00元"),
    ("number", 20000, "twenty thousand", "20,000", "两万", "20,000"),
    ("number", 100005, "one hundred thousand five", "100,005", "十万零五", "100,005"),
    ("date", "2027-03-03", "March third, twenty twenty seven", "March 3, 2027",
     "二零二七年三月三日", "2027年3月3日"),
    ("date", "1984-05-05", "May fifth, nineteen eighty four", "May 5, 1984",
     "一九八四年五月五日", "1984年5月5日"),
    ("date", "2006-12-31", "December thirty first, two thousand six", "December 31, 2006",
     "二零零六年十二月三十一日", "2006年12月31日"),
    ("date", "1907-07-22", "July twenty second, nineteen oh seven", "July 22, 1907",
     "一九零七年七月二十二日", "1907年7月22日"),
    ("time", "15:00", "three p m", "3:00 PM", "下午三点", "15:00"),
    ("time", "09:05", "nine oh five a m", "9:05 AM", "上午九点零五分", "09:05"),
    ("time", "14:30", "two thirty p m", "2:30 PM", "下午两点半", "14:30"),
    ("time", "00:00", "midnight", "12:00 AM", "凌晨零点", "00:00"),
    ("time", "12:00", "noon", "12:00 PM", "中午十二点", "12:00"),
    ("time", "07:30", "seven thirty a m", "7:30 AM", "早上七点半", "07:30"),
    ("time", "12:15", "twelve fifteen p m", "12:15 PM", "中午十二点十五分", "12:15"),
    ("minutes", 20, "less than a minute", "less than a minute", "不到一分钟", "不到1分钟"),
    ("minutes", 60, "one minute", "1 minute", "一分钟", "1分钟"),
    ("minutes", 130, "two minutes", "2 minutes", "两分钟", "2分钟"),
    ("minutes", 3900, "one hour five minutes", "1 hour 5 minutes", "一小时五分钟", "1小时5分钟"),
    ("minutes", -1, "a few minutes", "a few minutes", "几分钟", "几分钟"),
    ("spell", "ab1", "A B one", "ab1", "A B 一", "ab1"),
]  # fmt: skip


@pytest.mark.parametrize("row", SAID, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_value_is_said_and_printed_as_people_do(row: tuple[Any, ...]) -> None:
    form, value, *expected = row
    found = [
        spoken.render(form, value, language, voice=voice)
        for language in ("en", "zh")
        for voice in (True, False)
    ]
    assert found == expected


def test_another_currency_can_be_asked_for() -> None:
    assert spoken.render("money", 5, "en", voice=False, currency="CNY") == "¥5.00"
    assert spoken.render("money", 5.5, "zh", voice=True, currency="USD") == "五美元五十美分"
    assert spoken.render("money", 5, "en", voice=False, currency="CHF") == "5.00 CHF"


def test_a_near_date_is_said_without_its_year() -> None:
    assert spoken.render("date", "2027-03-03", "en", voice=True, now=NOW) == "March third"
    assert spoken.render("date", "2027-03-03", "zh", voice=True, now=NOW) == "三月三日"
    assert "twenty" in spoken.render("date", "2028-03-03", "en", voice=True, now=NOW)


@pytest.mark.parametrize("form", spoken.FORMATS)
@pytest.mark.parametrize("voice", [True, False])
@pytest.mark.parametrize("language", ["en", "zh", "xx"])
def test_garbage_is_rendered_as_it_is(form: str, voice: bool, language: str) -> None:
    for value in (None, "", "abc", "no", [], {}, float("nan"), float("inf"), 10**400, 1e300, True):
        assert isinstance(spoken.render(form, value, language, voice=voice), str)


# --- for all texts and values -------------------------------------------------------------------

VOCABULARY = [
    *sorted(
        {w for kind in spoken.KINDS for lang in ("en", "zh") for w in spoken.words(kind, lang)}
    ),
    "$12.50",
    "3/5",
    "2027-03-05",
    "9:30",
    "12,345.60",
    "+",
    "-",
    "，",
    "not",
    "1,2",
    "99",
    ".",
]
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join),
    st.lists(st.sampled_from(VOCABULARY), max_size=12).map("".join),
)
SHAPES = {
    "digits": str,
    "number": (int, float),
    "money": float,
    "date": str,
    "time": str,
    "phone": str,
    "yes_no": bool,
    "choice": str,
    "text": str,
}


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(spoken.KINDS), st.sampled_from(["en", "zh", "fr"]))
@example("0A0MILLION", "phone", "en")
def test_no_text_is_too_strange(text: str, kind: str, language: str) -> None:
    value = spoken.parse(kind, text, language, now=NOW, options=MENU)
    assert value is None or isinstance(value, SHAPES[kind])
    if kind == "date" and value is not None:
        date.fromisoformat(value)
    if kind == "time" and value is not None:
        datetime.strptime(value, "%H:%M")
    assert spoken.progress(kind, text, language, options=MENU) in (
        "none", "partial", "full", "final"
    )  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*spoken.FORMATS, "other"]), json_values, st.booleans())
def test_no_value_is_too_strange(form: str, value: Any, voice: bool) -> None:
    for language in ("en", "zh"):
        assert isinstance(spoken.render(form, value, language, voice=voice), str)


@settings(deadline=None)
@given(st.text("0123456789", min_size=1, max_size=20), st.sampled_from(["en", "zh"]))
def test_digits_survive_being_said(digits: str, language: str) -> None:
    said = spoken.render("digits", digits, language, voice=True)
    assert spoken.parse("digits", said, language, now=NOW) == digits


@settings(deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["en", "zh"]), st.booleans())
def test_numbers_survive_being_said(number: int, language: str, voice: bool) -> None:
    said = spoken.render("number", number, language, voice=voice)
    assert spoken.parse("number", said, language, now=NOW) == number


@settings(deadline=None)
@given(st.integers(0, 10**8), st.sampled_from(["en", "zh"]), st.booleans())
def test_amounts_survive_being_said(cents: int, language: str, voice: bool) -> None:
    said = spoken.render("money", cents / 100, language, voice=voice)
    assert spoken.parse("money", said, language, now=NOW) == cents / 100


@settings(deadline=None)
@given(st.integers(0, 80_000), st.sampled_from(["en", "zh"]), st.booleans())
def test_dates_survive_being_said(offset: int, language: str, voice: bool) -> None:
    day = (date(1901, 1, 1) + timedelta(days=offset)).isoformat()
    said = spoken.render("date", day, language, voice=voice)
    assert spoken.parse("date", said, language, now=NOW) == day


@settings(deadline=None)
@given(st.integers(0, 1439), st.sampled_from(["en", "zh"]), st.booleans())
def test_times_survive_being_said(minute: int, language: str, voice: bool) -> None:
    time = f"{minute // 60:02d}:{minute % 60:02d}"
    said = spoken.render("time", time, language, voice=voice)
    assert spoken.parse("time", said, language, now=NOW) == time


def test_a_long_text_is_read_in_no_time() -> None:
    for text in ("one hundred " * 200, "二十三十万" * 200, "1," * 500, "next " * 200, "半" * 500):
        for kind in spoken.KINDS:
            begin = datetime.now(UTC)
            spoken.parse(kind, text, "en", now=NOW, options=MENU)
            spoken.parse(kind, text, "zh", now=NOW, options=MENU)
            assert (datetime.now(UTC) - begin).total_seconds() < 1.0


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="not a kind"):
        spoken.parse("colour", "red", "en", now=NOW)
