"""What a recogniser has to know to hear each kind of answer: words and whole phrases, by language.

Drawn from the readers' own tables, so that a word that can be understood can also be heard.
"""

from __future__ import annotations

from collections.abc import Iterable

from ivr.flow.phrases import normalise
from ivr.flow.spoken import chinese
from ivr.flow.spoken import english_words as english
from ivr.flow.spoken.english_words import row


def _list(*groups: Iterable[str]) -> tuple[str, ...]:
    """Single words in a stable order, without typed signs and abbreviations of one letter."""
    found = (word for group in groups for text in group for word in text.split())
    return tuple(dict.fromkeys(word for word in found if word.replace("'", "").isalpha()))


def _full_names(names: dict[str, int]) -> list[str]:
    """Of each value its longest name: abbreviations are typed, not said."""
    return [
        max((name for name, value in names.items() if value == wanted), key=len)
        for wanted in dict.fromkeys(names.values())
    ]


_COUNTS = [word for word in english.ONES if word not in ("nought", "naught", "nil")]
_SMALL = [
    *_COUNTS,
    *english.TEENS,
    *(word for word in english.TENS if word != "fourty"),
]
_EN_NUMBER = [*_SMALL, "hundred", "thousand", "million", "and", "a", "point", "half", "minus"]
_ZH_NUMBER = [*chinese.DIGITS, *chinese.UNITS]
_EN_DATE = [
    *_full_names(english.MONTHS), *_full_names(english.WEEKDAYS), *english.ORDINALS,
    *sorted(english.DATE_WORDS), *english.HOLIDAYS, "the", "of", "a",
]  # fmt: skip
_ZH_DATE = [
    "年", "月", "号", "日", *chinese.RELATIVE_DAYS, *chinese.YEARS, *chinese.HOLIDAYS, "周", "星期",
    "礼拜", "天", "末", "下", "上", "本", "这", "个", "底", "之后", "以后", "后", "过",
]  # fmt: skip

WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("digits", "en"): _list(_SMALL, ["hundred", "thousand"], english.REPEATS),
    ("number", "en"): _list(_EN_NUMBER),
    ("money", "en"): _list(_EN_NUMBER, row("dollar dollars cent cents buck bucks grand")),
    ("date", "en"): _list(_EN_DATE, _SMALL, ["hundred", "thousand"]),
    ("time", "en"): _list(
        sorted(english.TIME_WORDS), _SMALL, row("o'clock am pm a p m in the at"),
        (part for part in english.PARTS if part != "oclock"), ["hundred"],
    ),
    ("phone", "en"): _list(_SMALL, ["hundred", "plus"], english.REPEATS),
    ("yes_no", "en"): _list(map(normalise, (*english.YES, *english.NO))),
    ("digits", "zh"): _list(_ZH_NUMBER, ["个"]),
    ("number", "zh"): _list(_ZH_NUMBER, ["点", "半", "负"]),
    ("money", "zh"): _list(_ZH_NUMBER, row("点 半 块 元 毛 角 分 钱 块钱 整")),
    ("date", "zh"): _list(_ZH_DATE, _ZH_NUMBER),
    ("time", "zh"): _list(
        _ZH_NUMBER, row("点 时 分 半 一刻 三刻 钟 整 差 过 正午 午夜 现在 小时 分钟 后"),
        chinese.PARTS,
    ),
    ("phone", "zh"): _list(_ZH_NUMBER, ["加", "个"]),
    ("yes_no", "zh"): _list(map(normalise, (*chinese.YES, *chinese.NO))),
}  # fmt: skip

PHRASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("yes_no", language): tuple(dict.fromkeys(map(normalise, (*table.YES, *table.NO))))
    for language, table in (("en", english), ("zh", chinese))
}
