"""What answers one question in one language, worked out once for recognisers, keypads and texts.

A *meaning* is what an answer comes to: a choice of a menu (or the yes or no of a confirmation), the
values of slots, or a global command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from ivr.flow import lexicon, phrases, spoken
from ivr.flow.events import Choice, Grammar, Keypad
from ivr.flow.schema import (
    CollectNode,
    ConfirmNode,
    Flow,
    LanguageNode,
    MenuNode,
    OfferNode,
    Slot,
)

YES, NO = "yes", "no"
_YES_NO_KEYS = {"1": YES, "2": NO}
_SPREAD_LIMIT = 120
_HARDEST_FIRST = ["date", "time", "money", "phone", "choice", "digits", "number", "yes_no", "text"]

_KEYPADS: Mapping[str, Keypad] = {
    "number": Keypad(minimum=1, maximum=12),
    "money": Keypad(minimum=1, maximum=12),
    "date": Keypad(minimum=4, maximum=8),
    "time": Keypad(minimum=3, maximum=4),
    "phone": Keypad(minimum=3, maximum=16),
    "yes_no": Keypad(options=tuple(_YES_NO_KEYS)),
    "text": Keypad(),
}
_NO_KEYS = Keypad()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer comes to. `kind` is `choice`, `slots` or `command`; `values` are a choice's or
    command's name under `name`, or values by slot."""

    kind: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.values.get("name", ""))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Everything that answers one question: by whole phrases, by what is typed, by keys."""

    language: str
    grammar: Grammar
    keypad: Keypad
    choices: tuple[Choice, ...] = ()
    slot: Slot | None = None
    others: tuple[Slot, ...] = ()
    slot_type: str = ""
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    typed: Mapping[str, Meaning] = field(default_factory=dict)
    keys: Mapping[str, Meaning] = field(default_factory=dict)

    def pressed(self, digits: str, now: datetime) -> Meaning | None:
        """What keys mean."""
        if digits in self.keys or self.slot is None or not digits:
            return self.keys.get(digits)
        value = spoken.parse_keys(
            self.slot.type,
            digits,
            language=self.language,
            now=now,
            minimum=self.slot.minimum,
            maximum=self.slot.maximum,
            options=self.slot.options.get(self.language),
        )
        return None if value is None else Meaning("slots", {self.slot.name: value})

    def heard(self, text: str, now: datetime) -> Meaning | None:
        """What a text means that was heard or typed."""
        plain = phrases.normalise(text)
        found = phrases.find(plain, self.meanings)
        if found and found[1]:
            return found[0]
        values = self._values(text, plain, now)
        if values:
            return Meaning("slots", values)
        if self.slot_type == "yes_no" and self.slot is None:
            answer = spoken.parse("yes_no", text, self.language, now=now)
            if answer is not None:
                return Meaning("choice", {"name": YES if answer else NO})
        return found[0] if found else None

    def written(self, text: str, now: datetime) -> Meaning | None:
        """What a typed text means, which may also be a key or a label."""
        plain = phrases.normalise(text)
        if plain in self.typed:
            return self.typed[plain]
        meaning = self.heard(text, now)
        if meaning is None and plain.isascii() and plain.isdigit():
            return self.pressed(plain, now)
        return meaning

    def _values(self, text: str, plain: str, now: datetime) -> dict[str, Any]:
        if self.slot is None or not plain:
            return {}
        alone = not self.others or self.slot.type == "text"
        # A bare number answers what was asked, as it would if it were pressed.
        if alone or plain.isdecimal():
            value = parse(self.slot, text, self.language, now)
            if value is not None or alone:
                return {} if value is None else {self.slot.name: value}

        def read(slot: Slot, piece: str) -> Any:
            return parse(slot, piece, self.language, now)

        return spread(plain, (self.slot, *self.others), read)


def parse(slot: Slot, text: str, language: str, now: datetime) -> Any:
    """A slot's value from a text, or None."""
    return spoken.parse(
        slot.type,
        text,
        language,
        now=now,
        minimum=slot.minimum,
        maximum=slot.maximum,
        options=slot.options.get(language),
    )


Read = Callable[[Slot, str], Any]


def spread(plain: str, slots: Sequence[Slot], read: Read) -> dict[str, Any]:
    """The values of several slots in one answer, each cut out before the next is looked for.

    What is hardest to mistake comes first: the three of "at three" is no number of people. A day
    that cannot be made out for the words around it may be clear once those are cut out.
    """
    values: dict[str, Any] = {}
    pieces = [plain[:_SPREAD_LIMIT]]
    wanted = sorted(
        (slot for slot in slots if slot.type != "text"),
        key=lambda slot: _HARDEST_FIRST.index(slot.type),
    )
    for _ in wanted:
        for slot in wanted:
            for at, piece in enumerate(pieces if slot.name not in values else ()):
                value = read(slot, piece)
                if value is not None:
                    values[slot.name] = value
                    pieces[at : at + 1] = _around(slot, piece, value, read)
                    break
    return values


def _around(slot: Slot, piece: str, value: Any, read: Read) -> list[str]:
    """What is left on both sides of the fewest words that give the value."""
    glue = " " if " " in piece else ""
    words = piece.split() if glue else list(piece)
    first, last = 0, len(words)
    while last - first > 1 and value == read(slot, glue.join(words[first + 1 : last])):
        first += 1
    while last - first > 1 and value == read(slot, glue.join(words[first : last - 1])):
        last -= 1
    return [glue.join(side) for side in (words[:first], words[last:]) if side]


@lru_cache(maxsize=4096)
def answers(
    flow: Flow,
    node: str,
    slot: str,
    language: str,
    commands: tuple[str, ...],
    others: tuple[str, ...] = (),
    told: tuple[str, ...] = (),
) -> Answers:
    """What answers a node's question, `slot` being asked for where it fills slots. `others` may be
    told at once, and `told` corrected."""
    asked = flow.nodes.get(node)
    if isinstance(asked, MenuNode):
        return _menu(asked, flow, language, commands)
    if isinstance(asked, CollectNode):
        wanted = tuple(flow.slots[name] for name in others)
        known = tuple(flow.slots[name] for name in told)
        found = _collect(flow.slots[slot], wanted, language, commands, known)
        return _in_any_language(found) if _chooses_language(flow, slot) else found
    if isinstance(asked, ConfirmNode):
        read_out = [flow.slots[name] for name in sorted(asked.ask.names & set(flow.slots))]
        return _yes_no(language, commands, *_correcting(*_vocabulary(read_out, language), language))
    if isinstance(asked, OfferNode):
        return _yes_no(language, commands)
    return _build(language, commands)


@lru_cache(maxsize=4096)
def confirmation(
    flow: Flow, node: str, slot: str, language: str, commands: tuple[str, ...]
) -> Answers:
    """What answers "is that right?" after a question: yes, no, or no and the right value."""
    corrected = answers(flow, node, slot, language, ())
    refusals = lexicon.in_language(lexicon.REFUSALS, language)
    own = [*corrected.meanings]
    joined = [phrases.normalise(f"{word} {phrase}") for word in refusals[-1:] for phrase in own]
    whole, words = _correcting((*own, *joined), corrected.grammar.words, language)
    return _yes_no(language, commands, whole, words)


def _correcting(
    whole: tuple[str, ...], words: tuple[str, ...], language: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The phrases and words of values, with those that stand around one in a correction."""
    around = lexicon.in_language(lexicon.CORRECTING, language) if words else ()
    return whole, tuple(dict.fromkeys((*words, *around)))


@lru_cache(maxsize=64)
def yes_or_no(language: str, commands: tuple[str, ...]) -> Answers:
    """What answers a yes-or-no question of our own."""
    return _yes_no(language, commands)


def after_refusal(text: str, language: str) -> str | None:
    """What follows the "no" of a correction; "" where nothing does, None where there is no "no"."""
    plain = phrases.normalise(text)
    for word in lexicon.in_language(lexicon.REFUSALS, language):
        word = phrases.normalise(word)
        if plain == word:
            return ""
        if plain.startswith(word + " ") or (not word.isascii() and plain.startswith(word)):
            return plain[len(word) :].strip()
    return None


def _chooses_language(flow: Flow, slot: str) -> bool:
    return flow.slots[slot].type == "choice" and any(
        isinstance(node, LanguageNode) and slot in node.to.names for node in flow.nodes.values()
    )


def _in_any_language(answers: Answers) -> Answers:
    """With what a choice is called in the other languages."""
    assert answers.slot is not None
    named = {
        phrases.normalise(phrase): Meaning("slots", {answers.slot.name: option})
        for options in answers.slot.options.values()
        for option, said in options.items()
        for phrase in said
    }
    grammar = answers.grammar
    said = tuple(dict.fromkeys((*grammar.phrases, *named)))
    return replace(
        answers,
        meanings={**named, **answers.meanings},
        grammar=replace(grammar, phrases=said),
    )


def _menu(node: MenuNode, flow: Flow, language: str, commands: tuple[str, ...]) -> Answers:
    meanings: dict[str, Meaning] = {}
    typed: dict[str, Meaning] = {}
    keys: dict[str, Meaning] = {}
    shown = []
    default = flow.languages[0]
    for choice in node.choices:
        meaning = Meaning("choice", {"name": choice.name})
        said = choice.say.get(language) or choice.say.get("") or choice.say.get(default, ())
        for phrase in said:
            meanings.setdefault(phrase, meaning)
        labels = choice.labels
        label = labels.get(language) or labels.get("") or labels.get(default) or choice.name
        for text in filter(None, (choice.key, phrases.normalise(label))):
            typed.setdefault(text, meaning)
        if choice.key:
            keys.setdefault(choice.key, meaning)
        shown.append(Choice(choice.name, label, choice.key))
    # Who chooses a language may do so in that language.
    for choice in node.choices:
        if isinstance(flow.nodes.get(choice.then or node.then), LanguageNode):
            for said in choice.say.values():
                for phrase in said:
                    meanings.setdefault(phrase, Meaning("choice", {"name": choice.name}))
    # Who types may do so in any language of the flow.
    for choice in node.choices:
        for said in choice.say.values():
            for phrase in said:
                typed.setdefault(phrase, Meaning("choice", {"name": choice.name}))
    return _build(
        language,
        commands,
        keypad=Keypad(options=tuple(keys)),
        choices=tuple(shown),
        meanings=meanings,
        typed=typed,
        keys=keys,
    )


def _collect(
    slot: Slot,
    others: tuple[Slot, ...],
    language: str,
    commands: tuple[str, ...],
    told: tuple[Slot, ...] = (),
) -> Answers:
    keypad = _KEYPADS.get(slot.type, Keypad(minimum=slot.minimum, maximum=slot.maximum))
    choices: tuple[Choice, ...] = ()
    if slot.type == "choice":
        labels = slot.labels.get(language, {})
        choices = tuple(
            Choice(name, labels.get(name, name), str(number) if number < 10 else "")
            for number, name in enumerate(slot.options.get(language, {}), 1)
        )
        keypad = Keypad(options=tuple(choice.key for choice in choices if choice.key))
    whole, words = _vocabulary((slot, *others, *told), language)
    if told:
        whole, words = _correcting(whole, words, language)
    one_value = not others and not told and slot.type not in ("choice", "text", "yes_no")
    return _build(
        language,
        commands,
        keypad=keypad,
        choices=choices,
        slot=slot,
        value=slot if one_value else None,
        others=others,
        slot_type=slot.type,
        words=words,
        whole=whole,
        typed={
            phrases.normalise(choice.label): Meaning("slots", {slot.name: choice.name})
            for choice in choices
        },
    )


def _vocabulary(slots: Sequence[Slot], language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The whole phrases and the words that recognisers need for these slots."""
    whole: dict[str, None] = {}
    words: dict[str, None] = {}
    for slot in slots:
        options = slot.options.get(language)
        if slot.type == "choice":
            said = (phrase for spellings in (options or {}).values() for phrase in spellings)
            (whole if len(slots) == 1 else words).update(dict.fromkeys(said))
        else:
            words.update(dict.fromkeys(spoken.words(slot.type, language, options)))
            whole.update(dict.fromkeys(map(phrases.normalise, spoken.phrases(slot.type, language))))
    return tuple(whole), tuple(words)


def _yes_no(
    language: str,
    commands: tuple[str, ...],
    whole: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
) -> Answers:
    keys = {key: Meaning("choice", {"name": name}) for key, name in _YES_NO_KEYS.items()}
    said = tuple(map(phrases.normalise, spoken.phrases("yes_no", language)))
    return _build(
        language,
        commands,
        keypad=Keypad(options=tuple(keys)),
        slot_type="yes_no",
        whole=(*said, *whole),
        words=words,
        typed=dict(keys),
        keys=keys,
    )


def _build(
    language: str,
    commands: tuple[str, ...],
    *,
    keypad: Keypad = _NO_KEYS,
    meanings: Mapping[str, Meaning] | None = None,
    whole: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    value: Slot | None = None,
    **more: Any,
) -> Answers:
    """With the global commands, which give way to what the designer's own phrases mean."""
    meanings = dict(meanings or {})
    spoken_commands = lexicon.in_language(lexicon.ANYTIME, language)
    own = {*meanings, *whole}
    for command in commands:
        for phrase in map(phrases.normalise, spoken_commands[command]):
            if phrase not in own:
                meanings[phrase] = Meaning("command", {"name": command})
    said = tuple(dict.fromkeys((*whole, *meanings)))
    asked = () if value is None else (value.type, value.minimum, value.maximum)
    grammar = Grammar(language, said, words, *asked)
    return Answers(language, grammar, keypad, meanings=meanings, **more)
