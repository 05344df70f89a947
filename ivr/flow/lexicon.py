"""What every flow understands and says by itself, per language, without its designer writing it.

A language that is not in a table is served in English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

ANYTIME: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "agent": ("agent", "operator", "a person"),
        "repeat": ("repeat", "say that again"),
        "start_over": ("start over",),
        "go_back": ("go back",),
        "text_me": ("text me",),
    },
    "zh": {
        "agent": ("人工", "人工服务", "转人工"),
        "repeat": ("重复", "再说一遍"),
        "start_over": ("重来", "重新开始"),
        "go_back": ("返回", "上一步"),
        "text_me": ("发短信", "加微信"),
    },
}
"""The global phrases: what they command, and how that is said."""

COMMANDS = tuple(ANYTIME["en"])

CHANNEL_WORDS: Mapping[str, str] = {"微信": "wechat", "短信": "sms", "text me": "sms"}
"""Words in a `text_me` phrase that name the channel that the customer would like first."""

REFUSALS: Mapping[str, tuple[str, ...]] = {
    "en": ("no it is", "no it's", "no not that", "no sorry", "no i said", "nope", "no"),
    "zh": ("不对应该是", "不对", "不是", "错了", "不", "没有"),
}
"""How a correction begins ("no, one two three"), longest first within each language."""

CORRECTING: Mapping[str, tuple[str, ...]] = {
    "en": ("no", "not", "but", "it's", "it", "is"),
    "zh": ("不对", "不是", "是", "应该是"),
}
"""Words of a correction that are not part of what is right."""

YES_NO: Mapping[str, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}
"""How a yes and a no are read back."""

SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "confirm": "I heard {value}. Is that right?",
        "yes_or_no": "Please say yes or no, or press 1 for yes or 2 for no.",
        "corrected": "All right, {value}.",
        "no_input": "I did not hear you.",
        "no_match": "Sorry, I did not get that.",
        "keys": "Please use the keypad this time.",
        "leave": "Sorry, I cannot help you any further. Please contact us again later. Goodbye.",
        "invite": "To go on here, open {link} (code {code}).",
        "invited": "I have sent you a message. Please open it to go on there.",
        "not_invited": "Sorry, I could not reach you there.",
        "welcome_back": "Welcome back. Shall we go on where we were? For yes, press 1. To start "
        "over, press 2.",
    },
    "zh": {
        "confirm": "我听到的是{value}，对吗？",
        "yes_or_no": "请说对或不对，或者按1表示对，按2表示不对。",
        "corrected": "好的，{value}。",
        "no_input": "我没有听到您的声音。",
        "no_match": "抱歉，我没有听懂。",
        "keys": "这次请用按键输入。",
        "leave": "抱歉，这里暂时无法继续为您服务，请稍后再联系我们。再见。",
        "invite": "请打开{link}继续，验证码{code}。",
        "invited": "已给您发送消息，请打开后继续。",
        "not_invited": "抱歉，没能在那边联系到您。",
        "welcome_back": "欢迎回来。要从刚才中断的地方继续吗？继续请按1，重新开始请按2。",
    },
}
"""Sentences of the engine's own, under the name of their occasion."""


def in_language(table: Mapping[str, T], language: str) -> T:
    """The table's entry for a language, or else for English."""
    return table.get(language) or table["en"]
