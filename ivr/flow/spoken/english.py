"""English as it is said and typed: its readers of numbers, digits and amounts.

Dates and times are read in `english_time`; the words stand in `english_words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from ivr.flow.spoken.english_words import (
    CENTS,
    DIGIT_FILLERS,
    DOLLARS,
    HESITATIONS,
    ONES,
    REPEATS,
    SCALES,
    SOUNDS_LIKE,
    TEENS,
    TENS,
    row,
)

_TOKEN = re.compile(
    r"\d{1,2}(?:st|nd|rd|th)\b|\d[\d,.]*\d|\d|[a-z]+(?:'[a-z]+)*|[-$£€¥¢./,()+:*#%]"
)


@lru_cache(maxsize=512)
def tokens(text: str) -> tuple[str, ...]:
    """The words, numerals and signs of a text that is lower case already."""
    text = re.sub(r"\bo['\s]?\s?clock\b", " oclock ", text)
    text = re.sub(r"(?<=\d)\s*([ap])\.?\s?m\b\.?|\b([ap])\.?\s?m\b\.?", r" \1\2m ", text)
    text = re.sub(r"(?<=\d)([ap])\b", r" \1m", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    return tuple(_TOKEN.findall(text))


# --- numbers ------------------------------------------------------------------------------------


def numeral(token: str) -> Decimal | None:
    """A typed number: 12,345.60 and 12.345,60 and 12,50 mean what people mean by them."""
    if not token[0].isdigit() or token[-1].isalpha():
        return None
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", token):
        token = token.replace(",", "")
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", token) or re.fullmatch(r"\d+,\d{1,2}", token):
        token = token.replace(".", "").replace(",", ".")
    return Decimal(token) if re.fullmatch(r"\d{1,18}(\.\d{1,9})?", token) else None


def cardinal(words: tuple[str, ...], at: int) -> tuple[Decimal, int] | None:
    """The longest number in words (or a numeral with a scale) from here, and where it ends."""
    total, group, scale_before, start = Decimal(0), None, 10**12, at
    while at < len(words):
        word = words[at]
        after = words[at + 1] if at + 1 < len(words) else ""
        small = ONES.get(word, TEENS.get(word, TENS.get(word)))
        typed = numeral(word) if group is None and small is None else None
        if typed is not None and (at == start or scale_before < 10**12):
            group = typed
        elif word in ("a", "an") and group is None and at == start:
            if after not in ("hundred", "thousand", "million", "billion", "dozen", "grand"):
                break
            group = Decimal(1)
        elif small is not None:
            if group is None:
                group = Decimal(small)
            elif _fits_after(group, small):
                group += small
            else:
                break
            if word in ("oh", "o") or (small == 0 and at > start):
                return (Decimal(0), at + 1) if at == start else (total + group, at)
        elif word == "hundred" and group is not None and 0 < group < 100:
            group *= 100
        elif word == "dozen" and group is not None and total == 0:
            group *= 12
        elif word in SCALES and group is not None and group > 0 and SCALES[word] < scale_before:
            total, group, scale_before = total + group * SCALES[word], None, SCALES[word]
        elif not (
            word == "and"
            and at > start
            and (words[at - 1] == "hundred" or words[at - 1] in SCALES)
            and (after in ONES or after in TEENS or after in TENS)
        ):
            break
        at += 1
    if at == start:
        return None
    return total + (group or 0), at


def _fits_after(group: Decimal, small: int) -> bool:
    """Whether "forty" can go on with "two", "three hundred" with "twelve"."""
    if small == 0 or group == 0:
        return False
    if group % 100 == 0:
        return True
    return small < 10 and group % 10 == 0 and group % 100 >= 20


def _fraction(words: tuple[str, ...], at: int) -> tuple[Decimal, int] | None:
    """What follows "point": digits one by one, or a number of two digits."""
    digits, start = "", at
    while at < len(words):
        if words[at] in ONES:
            digits += str(ONES[words[at]])
        elif words[at].isdigit() or words[at] in TEENS or words[at] in TENS:
            found = cardinal(words, at)
            assert found is not None
            digits += words[at] if words[at].isdigit() else str(found[0])
            at = found[1]
            break
        else:
            break
        at += 1
    return (Decimal("0." + digits[:9]), at) if at > start else None


_QUARTERS = {
    "a quarter": Decimal("0.25"),
    "one quarter": Decimal("0.25"),
    "two quarters": Decimal("0.5"),
    "three quarters": Decimal("0.75"),
}


def number_at(words: tuple[str, ...], at: int) -> tuple[Decimal, int] | None:
    """A whole or fractional number that starts here: "minus two point five", "three and a half"."""
    if words[at] in ("minus", "negative", "-") and at + 1 < len(words):
        found = number_at(words, at + 1)
        return (-found[0], found[1]) if found and found[0] >= 0 else None
    if words[at : at + 2] in (("a", "half"), ("one", "half")):
        return Decimal("0.5"), at + 2
    if words[at] == "half" and words[at + 1 : at + 2] in (("a",), ("an",)):
        whole = cardinal(words, at + 1)
        return (whole[0] / 2, whole[1]) if whole else (Decimal("0.5"), at + 2)
    if words[at] == "half":
        return Decimal("0.5"), at + 1
    quarters = _QUARTERS.get(" ".join(words[at : at + 2]))
    if quarters is not None:
        return quarters, at + 2
    if words[at : at + 2] == ("a", "couple"):
        return Decimal(2), at + 2
    whole = cardinal(words, at)
    value, end = whole or (Decimal(0), at)
    if words[end : end + 1] in (("point",), (".",), ("dot",)):
        rest = _fraction(words, end + 1)
        if rest is not None:
            value, end = value + rest[0], rest[1]
            if end < len(words) and words[end] in SCALES:
                value, end = value * SCALES[words[end]], end + 1
            return value, end
    if whole is None:
        return None
    part = (
        number_at(words, end + 1)
        if words[end : end + 1] == ("and",) and end + 1 < len(words)
        else None
    )
    if part is not None and 0 < part[0] < 1 and words[end + 1] in ("a", "one", "three"):
        scale = SCALES.get(words[end - 1], 1)
        value, end = value + part[0] * scale, part[1]
        if end < len(words) and words[end] in SCALES:
            value, end = value * SCALES[words[end]], end + 1
    return value, end


def groups(words: tuple[str, ...], at: int) -> tuple[list[str], int]:
    """The numbers said one after another from here, as digits: "nineteen oh seven" is 19, 07."""
    found: list[str] = []
    while at < len(words):
        if words[at] in ("a", "an"):
            break
        if words[at] in ONES and ONES[words[at]] == 0 and at + 1 < len(words):
            following = cardinal(words, at + 1)
            if following is not None and words[at + 1] in ONES and following[1] == at + 2:
                found.append(f"0{following[0]}")
                at += 2
                continue
        number = cardinal(words, at)
        if number is None:
            break
        found.append(words[at] if words[at].isdigit() and number[1] == at + 1 else f"{number[0]:f}")
        at = number[1]
    return found, at


# --- digits -------------------------------------------------------------------------------------

_Reading = tuple[int, str]


def _digit_readings(run: tuple[str, ...]) -> list[str]:
    """Every way a run of number words spells digits, the likeliest first (at most sixteen)."""
    best: list[list[_Reading]] = [[] for _ in range(len(run) + 1)]
    best[0] = [(0, "")]
    for at in range(len(run)):
        for cost, text, end in _digit_steps(run, at):
            best[end] += [(before + cost, head + text) for before, head in best[at]]
            best[end] = sorted(dict.fromkeys(best[end]), key=lambda item: item[0])[:16]
    return list(dict.fromkeys(text for _, text in best[-1]))


def _digit_steps(run: tuple[str, ...], at: int) -> Iterator[tuple[int, str, int]]:
    """The digits that may start here: how unlikely they are, what they are, and where they end."""
    word = run[at]
    after = run[at + 1] if at + 1 < len(run) else ""
    if word[0].isdigit():
        yield 0, re.sub(r"\D", "", word), at + 1
    if word in SOUNDS_LIKE:
        yield 1, SOUNDS_LIKE[word], at + 1
        yield 3, "", at + 1
    if word in REPEATS and (after in ONES or re.fullmatch(r"\d", after)):
        digit = str(ONES[after]) if after in ONES else after
        yield 0, digit * REPEATS[word], at + 2
    if word in ("and", "hundred") or word in REPEATS:
        # A stray "and" is a pause, and what cannot be read otherwise is a slip of the recogniser.
        yield 4 if word != "and" else 1, "", at + 1
    if word in ONES:
        yield 0, str(ONES[word]), at + 1
        if at == 0 and word in ("oh", "o") and len(run) > 1:
            yield 3, "", at + 1
    small = TEENS.get(word, TENS.get(word))
    if small is not None:
        joined = word in TENS and ONES.get(after, 0) > 0
        yield (1 if joined else 0), str(small), at + 1
        if joined:
            yield 0, str(small + ONES[after]), at + 2
    yield from _hundreds(run, at)


def _hundreds(run: tuple[str, ...], at: int) -> Iterator[tuple[int, str, int]]:
    """Hundreds and thousands: "one hundred twenty three" is 123, "eight hundred five" 805."""
    whole = cardinal(run, at)
    if whole is None or whole[1] < at + 2 or run[at] == "0":
        return
    said = run[at : whole[1]]
    if not any(word == "hundred" or word in SCALES for word in said):
        return
    # Digits read one by one go on after "hundred": "eight hundred five five five".
    runs_on = whole[1] < len(run) and said[-1] in ONES and said[-2] != "and"
    yield (1 if runs_on else 0), f"{whole[0]:f}", whole[1]
    last = max(i for i, word in enumerate(said) if word == "hundred" or word in SCALES)
    if last + 1 < len(said):
        head = cardinal(said[: last + 1], 0)
        if head is not None and head[1] == last + 1:
            yield (0 if runs_on else 1), f"{head[0]:f}", at + last + 1


def is_digit_word(word: str) -> bool:
    return (
        word in ONES or word in TEENS or word in TENS or word in REPEATS
        or word in ("hundred", "thousand", "million")
        or (word[0].isdigit() and not word[-1].isalpha())
    )  # fmt: skip


def digit_runs(text: str) -> list[list[str]]:
    """The stretches of digits in a text, each with its readings, likeliest first."""
    words = [word for word in tokens(text) if word not in DIGIT_FILLERS or word == "and"]
    runs: list[list[str]] = [[]]
    for at, word in enumerate(words):
        before = bool(runs[-1])
        after = at + 1 < len(words) and is_digit_word(words[at + 1])
        follows = words[at + 1] if at + 1 < len(words) else ""
        if (
            is_digit_word(word)
            or (word in SOUNDS_LIKE and before and (after or follows in SOUNDS_LIKE or not follows))
            or (word == "and" and before and after)
            or (word == "a" and after and follows in ("hundred", "thousand"))
        ):
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    alone = [run for run in runs if run and run not in (["oh"], ["o"])]
    return [_digit_readings(tuple(run[:80])) for run in alone or [run for run in runs if run]]


# --- number and money ---------------------------------------------------------------------------


def _is_number_word(word: str) -> bool:
    return is_digit_word(word) or word in SCALES or word in ("dozen", "half", "point")


def _numbers(words: tuple[str, ...]) -> Iterator[tuple[int, int, Decimal | None, tuple[str, ...]]]:
    """Each number in the words: where it starts and ends, its value (None when it is said in
    pieces, as "twelve fifty" is), and its words."""
    at = 0
    while at < len(words):
        signed = words[at] in ("minus", "negative") or (
            words[at] == "-" and (at == 0 or not _is_number_word(words[at - 1]))
        )
        begins = (
            is_digit_word(words[at]) or words[at] in ("a", "an", "half", "point", ".") or signed
        )
        found = number_at(words, at) if begins else None
        if found is None:
            at += 1
            continue
        end = found[1]
        while end < len(words) and is_digit_word(words[end]):
            more = number_at(words, end)
            end = more[1] if more else end + 1
        said = words[at:end]
        yield at, end, found[0] if end == found[1] else None, said
        at = end


# "Two thirds" is not two.
_FRACTIONS = tuple((word,) for word in row("third thirds fifth fifths sixths eighths tenths"))
_THAT_ONE = re.compile(
    r"\b(?:this|that|which|first|second|third|last|next|other|another|any|no|every) one\b"
)


def number(text: str) -> int | float | None:
    """The one number that a text holds."""
    text = _THAT_ONE.sub(" ", text)
    words = tuple(word for word in tokens(text) if word not in HESITATIONS)
    values = set()
    for _, end, value, said in _numbers(words):
        if value is None:
            value = _in_pieces(said)
        if value is None or words[end : end + 1] in _FRACTIONS:
            return None
        values.add(value)
    return _plain(values.pop()) if len(values) == 1 else None


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _in_pieces(said: tuple[str, ...]) -> Decimal | None:
    """A number said digit by digit or in groups: "one two three point four"."""
    head, point, tail = said, "", Decimal(0)
    for mark in ("point", "."):
        if mark in said:
            at = said.index(mark)
            rest = _fraction(said, at + 1)
            if rest is None or rest[1] != len(said):
                return None
            head, point, tail = said[:at], mark, rest[0]
    readings = _digit_readings(head) if head else ["0"]
    if not readings or len(readings[0]) > 15:
        return None
    return Decimal(readings[0]) + (tail if point else 0)


def _bare_amount(said: tuple[str, ...]) -> Decimal | None:
    """An amount without its unit: "twelve fifty" is 12.50, "one twenty five fifty" is 125.50."""
    parts, end = groups(said, 0)
    if end != len(said) or not parts:
        return None
    if len(parts) > 1 and len(parts[-1]) == 2 and sum(map(len, parts)) <= 12:
        return Decimal("".join(parts[:-1]) + "." + parts[-1])
    if all(len(part) == 1 for part in parts) and len(parts) <= 12:
        return Decimal("".join(parts))
    return None


def money(text: str) -> float | None:
    """The one amount that a text holds."""
    text = re.sub(r"\b(?:and )?(?:no|zero) cents\b|\beven\b", " ", text)
    text = re.sub(r"\bhalf a (?:dollar|buck)\b", "fifty cents", text)
    words = tuple(word for word in tokens(text) if word not in HESITATIONS)
    words = _with_articles(words)
    amounts: list[Decimal] = []
    # The amount in dollars that may still get its cents, and where it ended.
    open_end = -1
    for start, end, value, said in _numbers(words):
        unit = words[end] if end < len(words) else ""
        signed = start > 0 and words[start - 1] in DOLLARS
        if unit in CENTS:
            cents = value if value is not None else _in_pieces(said)
            if cents is None:
                return None
            if amounts and _adjoins(words, open_end, start):
                amounts[-1] += cents / 100
            else:
                amounts.append(cents / 100)
            open_end = -1
            continue
        if open_end >= 0 and _adjoins(words, open_end, start) and value and value < 1:
            amounts[-1] += value
            open_end = -1
            continue
        if open_end >= 0 and _adjoins(words, open_end, start) and unit not in DOLLARS:
            parts, _ = groups(said, 0)
            cents_text = "".join(parts)
            if len(cents_text) != 2:
                return None
            amounts[-1] += Decimal(cents_text) / 100
            open_end = -1
            continue
        if value is None:
            value = _in_pieces(said) if unit in DOLLARS else _bare_amount(said)
        if value is None:
            return None
        amounts.append(value)
        open_end = end + 1 if unit in DOLLARS else end if signed else -1
    if len(set(amounts)) != 1:
        return None
    return round(float(amounts[0]), 2)


def _with_articles(words: tuple[str, ...]) -> tuple[str, ...]:
    """ "A dollar fifty" is one dollar and fifty cents."""
    return tuple(
        "one" if word == "a" and after in DOLLARS | CENTS else word
        for word, after in zip(words, (*words, "")[1:], strict=True)
    )


def _adjoins(words: tuple[str, ...], end: int, start: int) -> bool:
    return 0 <= end <= start and all(word in ("and", ",") for word in words[end:start])
