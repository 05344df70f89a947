"""How Whisper may write what is said, and how what it wrote is read back as the grammar's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIGURES = {word: str(value) for value, word in enumerate(_WORDS)}
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")

HAN_DIGITS = "零一二三四五六七八九"
_SAID_OTHERWISE = str.maketrans("幺么洞拐勾两〇", "一一零七九二零")


def ways(text: str, language: str) -> Iterator[str]:
    """How Whisper may write a whole text."""
    if language == "zh":
        yield text
        return
    yield f" {text}"
    yield f" {text.capitalize()}."
    if text in _FIGURES:
        yield f" {_FIGURES[text]}"


def forms(word: str, language: str) -> tuple[str, ...]:
    """How Whisper may write a word within a sequence."""
    return (word,) if language == "zh" else (f" {word}", f" {word.capitalize()}")


def joints(language: str) -> tuple[str, ...]:
    """What may stand between the words."""
    # Between digits Whisper writes commas; forbidden them, it stops at the first pause.
    return () if language == "zh" else (",", ".")


def as_words(written: str, words: tuple[str, ...], language: str) -> str:
    """The sequence in the grammar's spelling, "" unless it is made of its words alone."""
    if language == "zh":
        text = "".join(written.split())
        longest_first = sorted(words, key=len, reverse=True)
        return text if re.fullmatch(f"(?:{'|'.join(map(re.escape, longest_first))})+", text) else ""
    said = _WORD.findall(written.lower())
    if "oh" in words:  # one and the same in speech, and so no rival of each other
        said = ["oh" if word == "o" else word for word in said]
    return " ".join(said) if said and set(said) <= set(words) else ""


def digit_words(language: str, oh: bool) -> tuple[str, ...]:
    """What the digits are called, in order; then another name for zero where it may be."""
    names = tuple(HAN_DIGITS) if language == "zh" else _WORDS
    return (*names, "oh") if oh else names


def spaced(words: Iterable[str], language: str) -> str:
    """Words as a text."""
    return ("" if language == "zh" else " ").join(words)


def figures(text: str) -> str:
    """Digits said one by one as figures, "" where the text is more than that."""
    plain = text.translate(_SAID_OTHERWISE)
    if plain and set(plain) <= set(HAN_DIGITS):
        return "".join(str(HAN_DIGITS.index(sign)) for sign in plain)
    said = [_FIGURES.get(word, "0" if word == "oh" else "") for word in text.split()]
    return "".join(said) if all(said) else ""


def digit_signs(language: str) -> tuple[tuple[str, str], ...]:
    """Each way in which Whisper writes a digit that stands among others, and the digit."""
    if language == "zh":
        return (*((sign, str(value)) for value, sign in enumerate(HAN_DIGITS)), ("0", "0"))
    return (*((f" {word}", figure) for word, figure in _FIGURES.items()), (" oh", "0"), (" O", "0"))
