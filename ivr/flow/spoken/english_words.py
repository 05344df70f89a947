"""The words of English that values are made of, as tables: what is said, and what it stands for."""

from __future__ import annotations

import re


def row(words: str) -> list[str]:
    """A row of a table, written as it is read."""
    return words.split()


def phrases(listed: str) -> list[str]:
    """A row of whole phrases."""
    return listed.split("|")


def _values(rows: str, start: int = 0) -> dict[str, int]:
    """Words and their values, counted up from `start`; words of one value stand together."""
    return {
        word: value
        for value, words in enumerate(rows.split(" / "), start)
        for word in words.split()
    }


ONES = _values(
    "zero oh o nought naught nil / one / two / three / four / five / six / seven / eight / nine"
)
TEENS = _values(
    "ten / eleven / twelve / thirteen / fourteen / fifteen / sixteen / seventeen / eighteen / "
    "nineteen",
    10,
)
TENS = {
    word: value * 10
    for word, value in _values(
        "twenty / thirty / forty fourty / fifty / sixty / seventy / eighty / ninety", 2
    ).items()
}
SCALES = {
    "thousand": 1_000, "k": 1_000, "grand": 1_000, "million": 1_000_000, "billion": 1_000_000_000,
}  # fmt: skip
REPEATS = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}
SOUNDS_LIKE = {"to": "2", "too": "2", "for": "4", "fore": "4", "ate": "8", "won": "1", "tree": "3"}
ORDINALS = _values(
    "first / second / third / fourth / fifth / sixth / seventh / eighth / ninth / tenth / "
    "eleventh / twelfth / thirteenth / fourteenth / fifteenth / sixteenth / seventeenth / "
    "eighteenth / nineteenth / twentieth",
    1,
) | {"thirtieth": 30}
MONTHS = _values(
    "january jan / february feb / march mar / april apr / may / june jun / july jul / "
    "august aug / september sep sept / october oct / november nov / december dec",
    1,
)
WEEKDAYS = _values(
    "monday mon / tuesday tue tues / wednesday wed weds / thursday thu thur thurs / "
    "friday fri / saturday sat / sunday sun"
)
HOLIDAYS = {
    "christmas eve": (12, 24), "christmas day": (12, 25), "christmas": (12, 25), "xmas": (12, 25),
    "boxing day": (12, 26), "new year's eve": (12, 31), "new years eve": (12, 31),
    "new year's day": (1, 1), "new years day": (1, 1), "new year's": (1, 1),
    "new years": (1, 1),
    "valentine's day": (2, 14), "valentines day": (2, 14), "halloween": (10, 31),
    "independence day": (7, 4), "fourth of july": (7, 4), "st patrick's day": (3, 17),
}  # fmt: skip
DATE_WORDS = frozenset(
    row(
        "today tonight tomorrow yesterday day days week weeks month months year years "
        "fortnight next this coming last from now in ago after before end or "
        "half every easter thanksgiving"
    )
)
PARTS = {
    "am": "am", "pm": "pm", "morning": "am", "afternoon": "pm", "evening": "pm", "tonight": "night",
    "night": "night", "oclock": "",
}  # fmt: skip
TIME_WORDS = frozenset(
    row(
        "noon midday midnight half quarter past to after before of till til minute minutes "
        "hour hours oclock now in from or"
    )
)
DOLLARS = frozenset(
    row("dollar dollars buck bucks usd pound pounds quid euro euros yuan rmb kuai $ £ € ¥")
)
CENTS = frozenset(row("cent cents penny pennies pence fen c ¢"))
FILLERS = frozenset(
    row(
        "a about account address ah alright amount an and answer appointment around at be "
        "because best birth birthday bit born by can code come could date day do er erm "
        "exactly fine for good great guess have hello hi hm hmm how i i'd i'll i'm in is it "
        "it'll it's its just let let's like looking make maybe me mine mm my no number of ok "
        "okay on one perfect phone pin please prefer probably quite right say see set should "
        "so sorry sure tell than thank thanks that that'd that's the then there think this "
        "time to uh um umm us was we we'd well what what's which will with work works would "
        "yeah yep yes you"
    )
)
HESITATIONS = frozenset(row("um umm uh er erm ah hm hmm mm like well please thanks"))
DIGIT_FILLERS = HESITATIONS | frozenset(
    row("and then dash hyphen space dot comma slash next - . , / ( ) area code followed by")
)
CORRECTIONS = re.compile(
    r"\b(?:no wait|oh wait|wait|i mean|i meant|make that|scratch that|correction|sorry|actually"
    r"|or rather|rather|(?<=\w)[, ]+no(?! cents))\b"
)
NEGATED = re.compile(
    r"\b(?:not(?! sure| certain)|isn't|can't|cannot|won't|doesn't|wasn't|except|neither)\b"
)
YES = phrases(
    "yes|yeah|yep|yup|yes please|yes it is|yes that's right|that's right|that is right|"
    "that's correct|that is correct|correct|right|sure|of course|ok|okay|i do|absolutely|"
    "exactly|affirmative|please do|go ahead|definitely|certainly|y|uh huh|mm hmm|yes i do|"
    "you got it|sounds good|it is|that's it|true|all right|alright|fine|why not|that's fine|"
    "no problem|i guess so|that works|works for me|go for it|you bet|mhm"
)
NO = phrases(
    "no|nope|nah|no thanks|no thank you|no it isn't|no it's not|not really|that's wrong|"
    "that is wrong|that's not right|that is not right|that's not correct|that is not correct|"
    "incorrect|not correct|not right|wrong|negative|no way|i don't|i do not|don't|do not|never|"
    "n|not at all|absolutely not|of course not|not now|it's not|it isn't|no that's wrong|"
    "no i don't|false|certainly not|definitely not|i don't think so|not yet|please don't|uh uh|"
    "that's not what i said|that is not what i said|not yes|not exactly|that isn't right|"
    "isn't right|"
    "that is not it|that's not it|not that one|i guess not|probably not|i wouldn't"
)
UNSURE = phrases(
    "i don't know|don't know|do not know|i do not know|not sure|i'm not sure|no idea|maybe|"
    "i have no idea|perhaps|it depends|what|pardon|sorry|is that right|is it"
)
