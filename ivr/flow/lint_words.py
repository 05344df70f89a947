"""The linter's rules about words and keys: what is said, shown, pressed and listened for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from ivr.flow.alike import alike
from ivr.flow.cel import Compiled
from ivr.flow.expr import Prompt, parse_prompt
from ivr.flow.inspection import Found, Inspection, Place, described
from ivr.flow.phrases import expand
from ivr.flow.schema import (
    AnyNode,
    CallNode,
    FetchNode,
    LanguageNode,
    MenuNode,
    OfferNode,
    QueueNode,
    RecordNode,
    SetNode,
    WhenNode,
)
from ivr.flow.yamltree import Branch

CHOICES_LIMIT = 5
_PAIRS_LIMIT = 5_000


def same_keys(at: Inspection) -> Found:
    """E204: one key for two choices."""
    for name, node in at.flow.nodes.items():
        if not isinstance(node, MenuNode):
            continue
        owners: dict[str, str] = {}
        for choice in node.choices:
            owner = owners.setdefault(choice.key, choice.name) if choice.key else choice.name
            if owner != choice.name:
                path = ("nodes", name, "menu", "choices", choice.name, "press")
                message = f"key {choice.key} is choice {owner!r} already; give each its own"
                yield "E204", message, at.flow.where(*path, value=True)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """One way of saying one choice."""

    said: str
    choice: str
    language: str
    place: Place


def _menus(at: Inspection) -> Iterator[list[_Phrase]]:
    """The phrases of each menu and of each slot with options, in the order of the file."""
    groups: dict[tuple[str | int, ...], list[_Phrase]] = {}
    for text in at.texts():
        if text.role != "phrases":
            continue
        in_menu = text.path[0] == "nodes"
        group = groups.setdefault(text.path[: -2 if in_menu else -1], [])
        choice = str(text.path[-2 if in_menu else -1])
        for language, branch in text.by_language(at.flow.languages).items():
            for item in branch.value if isinstance(branch.value, list) else [branch]:
                group += [
                    _Phrase(said, choice, language, (item.line, item.column))
                    for said in expand(item.text)
                ]
    yield from groups.values()


def same_phrases(at: Inspection) -> Found:
    """E205: one phrase for two choices."""
    for group in _menus(at):
        owners: dict[tuple[str, str], str] = {}
        for phrase in group:
            owner = owners.setdefault((phrase.language, phrase.said), phrase.choice)
            if owner != phrase.choice:
                message = f"{phrase.said!r} says choice {owner!r} already; reword one of them"
                yield "E205", message, phrase.place


def missing_languages(at: Inspection) -> Found:
    """E206: a prompt or phrase lacks one of the flow's languages."""
    for text in at.texts():
        given = text.by_language(at.flow.languages)
        missing = [language for language in at.flow.languages if language not in given]
        if missing:
            message = f"{text.what} of {described(text.path)} lacks {', '.join(missing)}; add it"
            yield "E206", message, (text.branch.line, text.branch.column)


def secrets(at: Inspection) -> Found:
    """E207: a secret slot outside of the body and the headers of a fetch."""
    secret = frozenset(name for name, slot in at.flow.slots.items() if slot.secret)
    if not secret:
        return
    rule = "only the json and the headers of a fetch may name it"
    for text in at.texts():
        if text.role in ("phrases", "label"):
            continue
        for branch in text.by_language(at.flow.languages).values():
            for name in sorted(parse_prompt(branch.text).names & secret):
                message = f"the secret slot {name!r} would be said or shown; {rule}"
                yield "E207", message, (branch.line, branch.column)
    for node in at.flow.nodes.values():
        for names, way, path in _uses(node):
            for name in sorted(names & secret):
                message = f"the secret slot {name!r} would be {way}; {rule}"
                yield "E207", message, at.flow.where("nodes", node.name, *path, value=True)


def _uses(node: AnyNode) -> Iterator[tuple[frozenset[str], str, tuple[str | int, ...]]]:
    """The values that a node uses outside of prompts: their names, what for, and where."""
    match node:
        case FetchNode():
            yield node.path.names, "sent in a URL", ("fetch", node.method.lower())
        case LanguageNode():
            yield node.to.names, "shown", ("language", "to")
        case QueueNode():
            for index, path in enumerate(node.pop):
                yield frozenset(path[:1]), "shown to the agent", ("queue", "pop", index)
            if node.priority is not None:
                yield node.priority.names, "stored", ("queue", "priority")
        case RecordNode():
            yield frozenset((node.slot,)), "kept as a message", ("record", "slot")
        case SetNode():
            yield from _stored(node.values, ("set",))
        case CallNode():
            yield from _stored(node.given, ("call", "in"))
        case WhenNode():
            for index, (condition, _) in enumerate(node.cases):
                yield condition.names, "compared, where it reads as unset", ("when", index, "if")


def _stored(
    values: tuple[tuple[str, Compiled], ...], path: tuple[str, ...]
) -> Iterator[tuple[frozenset[str], str, tuple[str | int, ...]]]:
    for name, expression in values:
        yield expression.names, f"stored in {name!r}", (*path, name)


_DIGITS = {
    **{word: str(n) for n, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))},
    "star": "*", "pound": "#", "hash": "#", "星号": "*", "星": "*", "井号": "#", "井": "#",
    **{char: str(n) for n, char in enumerate("零一二三四五六七八九")},
}  # fmt: skip
_KEY = r"(?:[0-9*#]{1,4}|zero|one|two|three|four|five|six|seven|eight|nine|star|pound|hash)"
_PRESSED = {
    "en": re.compile(rf"\bpress(?:ing)?(?: the)?(?: key)? ({_KEY}(?:(?:,? or |, ?){_KEY})*)(?!\w)"),
    "zh": re.compile("按(?:键|数字)?([0-9*#]{1,4}|[零一二三四五六七八九]|星号?|井号?)"),
}


def _keys_named(prompt: str, language: str) -> set[str]:
    named: set[str] = set()
    for match in _PRESSED[language[:2]].finditer(prompt.lower()):
        for word in re.split(r",? or |, ?", match[1]):
            named.add(_DIGITS.get(word, word))
    return named


def keys_in_prompts(at: Inspection) -> Found:
    """W301: the prompt names a key that is not bound, or leaves one out that is."""
    for name, node in at.flow.nodes.items():
        if not isinstance(node, MenuNode):
            continue
        bound = {choice.key: choice.name for choice in node.choices if choice.key}
        ask = at.flow.tree.find(["nodes", name, "menu", "ask"])
        if ask is None:
            continue
        unnamed: dict[str, list[str]] = {}
        for languages, branch in _prompts_by_languages(ask, at.flow.languages):
            named = set().union(*(_keys_named(branch.text, language) for language in languages))
            for key in sorted(named - set(bound)):
                message = f"the prompt names key {key}, which no choice has; bind it or reword"
                yield "W301", message, (branch.line, branch.column)
            for key in bound:
                if key not in named:
                    unnamed.setdefault(key, []).append("/".join(languages))
        for key, said in unnamed.items():
            message = f"the prompt ({', '.join(said)}) does not say that key {key} is bound"
            path = ("nodes", name, "menu", "choices", bound[key], "press")
            yield "W301", message, at.flow.where(*path, value=True)


def _prompts_by_languages(
    ask: Branch, languages: tuple[str, ...]
) -> Iterator[tuple[list[str], Branch]]:
    """Each text of a prompt with the languages that it serves, of those whose keys can be read."""
    readable = [language for language in languages if language[:2] in _PRESSED]
    if not isinstance(ask.value, dict):
        if readable:
            yield readable, ask
        return
    for language in readable:
        if branch := ask.find([language]):
            yield [language], branch


def sound_alikes(at: Inspection) -> Found:
    """W302: phrases of two choices that are easily taken for one another."""
    for group in _menus(at):
        told: set[tuple[str, ...]] = set()
        pairs = 0
        for one, other in combinations(group, 2):
            choices = tuple(sorted((one.choice, other.choice)))
            if one.language != other.language or one.choice == other.choice or choices in told:
                continue
            pairs += 1
            if pairs > _PAIRS_LIMIT:
                break
            if one.said != other.said and alike(one.said, other.said, one.language):
                told.add(choices)
                message = (
                    f"{other.said!r} sounds like {one.said!r} of choice {one.choice!r}; "
                    "reword one of them"
                )
                yield "W302", message, other.place


def unknown_words(at: Inspection) -> Found:
    """W303: a word that the installed recogniser does not know."""
    if at.knows is None:
        return
    for group in _menus(at):
        told: set[tuple[str, str]] = set()
        for phrase in group:
            for word in phrase.said.split():
                if (phrase.language, word) in told or at.knows(phrase.language, word):
                    continue
                told.add((phrase.language, word))
                message = f"the recogniser ({phrase.language}) does not know {word!r}; reword it"
                yield "W303", message, phrase.place


def many_choices(at: Inspection) -> Found:
    """W304: more choices than people remember."""
    for name, node in at.flow.nodes.items():
        if isinstance(node, MenuNode) and len(node.choices) > CHOICES_LIMIT:
            message = (
                f"{len(node.choices)} choices; people remember {CHOICES_LIMIT}: split the menu"
            )
            yield "W304", message, at.flow.where("nodes", name, "menu", "choices")


_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWICE = frozenset("^{}\\[~]|€\f")
_FILLED = {"link": 32, "code": 6}
_GUESSED = 10


def segment(prompt: Prompt) -> tuple[int, int]:
    """The length of a text as an SMS, and how much one segment holds (3GPP TS 23.038).

    Holes count as what they are filled with: a link, a code, or ten characters.
    """
    literal = "".join(part for part in prompt.parts if isinstance(part, str))
    holes = [part for part in prompt.parts if not isinstance(part, str)]
    filled = sum(_FILLED.get(hole.path[0], _GUESSED) for hole in holes)
    if all(char in _GSM or char in _GSM_TWICE for char in literal):
        return filled + sum(1 + (char in _GSM_TWICE) for char in literal), 160
    return filled + len(literal.encode("utf-16-le")) // 2, 70


def long_texts(at: Inspection) -> Found:
    """W307: an invitation that needs more than one SMS."""
    for text in at.texts():
        if text.role != "message":
            continue
        node = at.flow.nodes[str(text.path[1])]
        if not isinstance(node, OfferNode) or "sms" not in node.channels:
            continue
        for language, branch in text.by_language(at.flow.languages).items():
            length, limit = segment(parse_prompt(branch.text))
            if length > limit:
                message = (
                    f"about {length} characters ({language}); one SMS holds {limit}: shorten it"
                )
                yield "W307", message, (branch.line, branch.column)


def unrecorded(at: Inspection) -> Found:
    """W308: a recorded voice is declared, and this prompt has no recording."""
    for text in at.texts():
        if text.role not in ("prompt", "waiting"):
            continue
        for language, branch in text.by_language(at.flow.languages).items():
            recordings = at.recorded.get(language)
            if recordings is not None and branch.text and branch.text not in recordings:
                message = (
                    f"no recording of this prompt ({language}); record it, or it is synthesised"
                )
                yield "W308", message, (branch.line, branch.column)
