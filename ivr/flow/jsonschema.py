"""A JSON Schema of flow files, so that editors complete keys and underline mistakes while typing.

It is made from the tables that the loader reads by, and says what a schema can say: keys, types and
shapes. Whether names exist and expressions compile is for `hotline lint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ivr.flow import lexicon
from ivr.flow.schema import (
    CHOICE_KEYS,
    FLOW_KEYS,
    KINDS,
    SLOT_KEYS,
    SLOT_TYPES,
    ConfirmNode,
    Key,
    Kind,
)
from ivr.model import Channel

Schema = Mapping[str, Any]

_LETTER = "A-Za-z_\u0080-\uffff"
_NAME: Schema = {"type": "string", "pattern": f"^[{_LETTER}][{_LETTER}0-9-]{{0,63}}$"}
_WORD = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"
_LANGUAGE = "^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$"
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _choice_of(*names: str) -> Schema:
    return {"enum": list(names)}


def _list_of(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _mapping_of(values: Schema, keys: str = "", **more: Any) -> Schema:
    names = {"propertyNames": {"pattern": keys}} if keys else {}
    return {"type": "object", "additionalProperties": values, **names, **more}


def _by_language(text: Schema) -> Schema:
    return {"anyOf": [text, _mapping_of(text, _LANGUAGE, minProperties=1)]}


def _keys(keys: Mapping[str, Key]) -> dict[str, Any]:
    """A mapping with the keys of a table."""
    required = [name for name, key in keys.items() if key.required]
    return {
        "type": "object",
        "properties": {name: _ref(key.type) for name, key in keys.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


_EXPRESSION: Schema = {"type": ["string", "number", "boolean", "null"]}
_PATTERN: Schema = {**_SCALAR, "minLength": 1, "maxLength": 300}
_CHANNELS = tuple(channel.value for channel in Channel if channel is not Channel.VOICE)
_FLAG: Schema = {"type": "boolean"}
_PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_WITH_ELSE: Schema = {
    "properties": {"else": _ref("node")},
    "required": ["else"],
    "additionalProperties": False,
}

TYPES: Mapping[str, Schema] = {
    "anytime": {
        "type": "object",
        "properties": {
            command: {"anyOf": [_ref("node"), {"type": "null"}]} for command in lexicon.COMMANDS
        },
        "additionalProperties": False,
    },
    "asked_slots": {
        "anyOf": [
            _list_of(_ref("slot"), minItems=1, maxItems=8),
            _mapping_of(_ref("prompt"), _WORD, minProperties=1, maxProperties=8),
        ]
    },
    "assignments": _mapping_of(_EXPRESSION),
    "barge_in": {
        "anyOf": [_FLAG, _keys({"speech": Key("flag"), "keys": Key("flag")})],
    },
    "called_flow": {"type": "string"},
    "cases": _list_of(
        {
            "type": "object",
            "if": {"required": ["else"]},
            "then": _WITH_ELSE,
            "else": _keys({"if": Key("expression", True), "then": Key("node", True)}),
        },
        contains={"required": ["if"]},
    ),
    "channels": _list_of(_choice_of(*_CHANNELS)),
    "choices": _mapping_of(_ref("choice"), minProperties=1, maxProperties=100),
    "confidence": _keys({"accept": Key("probability"), "reject": Key("probability")}),
    "confirm_mode": _choice_of("unsure", "always", "never"),
    "count": {"type": "integer", "minimum": 1, "maximum": 100},
    "duration": {
        "type": "string",
        "pattern": r"^(?![0.]+[a-z])\d{1,9}(\.\d{1,3})?(ms|s|m|h)$",
        "examples": ["500ms", "3s", "10m"],
    },
    "expression": _EXPRESSION,
    "flag": _FLAG,
    "given": _mapping_of(_EXPRESSION),
    "headers": _mapping_of({"type": "string"}, "^[A-Za-z][A-Za-z0-9-]{0,63}$"),
    "json": {},
    "label": _by_language({"type": "string", "pattern": r"\S"}),
    "language": {"type": "string", "minLength": 1},
    "languages": _list_of({"type": "string", "pattern": _LANGUAGE}, minItems=1),
    "listen": _list_of(_choice_of("speech", "keys"), minItems=1),
    "message": _ref("prompt"),
    "mode": _choice_of("move", "beside"),
    "name": _NAME,
    "names": _list_of(_NAME),
    "new_name": {"type": "string", "pattern": _WORD},
    "node": {"type": "string", "minLength": 1},
    "nodes": {
        **_mapping_of(_ref("any_node"), minProperties=1, maxProperties=3_000),
        "propertyNames": {"pattern": _NAME["pattern"]},
    },
    "number": {
        "anyOf": [
            {"type": "string", "pattern": r"^\+?[0-9]{2,18}$"},
            {"type": "integer", "minimum": 10},
        ]
    },
    "offer_after": _keys({"wait": Key("duration", True), "then": Key("node", True)}),
    "options": {
        "anyOf": [
            _list_of(_SCALAR, minItems=1),
            _mapping_of(_ref("phrases"), minProperties=1),
        ]
    },
    "phrases": _by_language({"anyOf": [_PATTERN, _list_of(_PATTERN)]}),
    "press": {
        "anyOf": [
            {"type": "string", "pattern": "^[0-9*#]{1,4}$"},
            {"type": "integer", "minimum": 0, "maximum": 9999},
        ]
    },
    "probability": _PROBABILITY,
    "prompt": _by_language({"type": "string", "maxLength": 4_000}),
    "prompts": {"anyOf": [_ref("prompt"), _list_of(_ref("prompt"))]},
    "shown": _list_of(_SCALAR),
    "slot": {"type": "string", "minLength": 1},
    "slot_type": _choice_of(*SLOT_TYPES),
    "slots": _mapping_of(_ref("any_slot"), _WORD),
    "taken": _mapping_of(_EXPRESSION),
    "url": {"type": "string", "pattern": r"^\{\s*[A-Za-z_][A-Za-z0-9_]*\s*\}"},
    "value": {"type": ["string", "number", "boolean", "null"]},
    "waiting": _ref("prompt"),
}
"""What the types that the tables name look like in a file."""

_METHODS = ("get", "post", "put", "patch", "delete")

_BODIES: Mapping[str, Schema] = {
    "collect": {
        "oneOf": [{"required": ["slot"]}, {"required": ["slots"]}],
        "anyOf": [
            {"required": ["ask"]},
            {"required": ["slots"], "properties": {"slots": {"type": "object"}}},
        ],
    },
    "fetch": {"oneOf": [{"required": [method]} for method in _METHODS]},
}
"""What only the whole body of a kind shows."""

_MENU_THEN: Schema = {
    "if": {"required": ["menu"], "not": {"required": ["then"]}},
    "then": {
        "properties": {
            "menu": {
                "properties": {"choices": {"additionalProperties": {"required": ["then"]}}},
            }
        }
    },
}
_ONLY_DIGITS: Schema = {
    "if": {"properties": {"type": {"const": "digits"}}},
    "else": {"properties": {"length": False, "min": False, "max": False}},
}
_ONLY_CHOICES: Schema = {
    "if": {"properties": {"type": {"const": "choice"}}},
    "then": {"required": ["of"]},
    "else": {"properties": {"of": False}},
}


def document() -> dict[str, Any]:
    """The whole schema."""
    choice = {
        **_keys(CHOICE_KEYS),
        "anyOf": [{"required": [key]} for key in ("press", "say", "label")],
    }
    slot = {**_keys(SLOT_KEYS), "allOf": [_ONLY_DIGITS, _ONLY_CHOICES]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A flow of the hotline",
        "description": "See docs/flow-language.md.",
        **_keys(FLOW_KEYS),
        "$defs": {
            "any_node": _node(),
            "any_slot": slot,
            "choice": choice,
            **{name: dict(schema) for name, schema in sorted(TYPES.items())},
        },
    }


def _node() -> dict[str, Any]:
    beside = sorted({key for kind in KINDS.values() for key in kind.beside}, reverse=True)
    return {
        "type": "object",
        "properties": {
            **{name: _body(name, kind) for name, kind in KINDS.items()},
            **{key: _ref("node") for key in beside},
        },
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in KINDS],
        "allOf": [
            *(
                {"if": {"required": [name]}, "then": {"properties": dict.fromkeys(missing, False)}}
                for name, kind in KINDS.items()
                if (missing := [key for key in beside if key not in kind.beside])
            ),
            *(
                {"not": {"required": [name, key], "properties": {name: {"required": [key]}}}}
                for name, kind in KINDS.items()
                for key in kind.beside
                if key in kind.keys and kind.node is not ConfirmNode
            ),
            _MENU_THEN,
        ],
    }


def _body(name: str, kind: Kind) -> dict[str, Any]:
    told = {"description": (kind.node.__doc__ or "").split("\n")[0]}
    bare = _ref(kind.keys[kind.bare].type) if kind.bare else None
    if kind.whole:
        return {**told, "allOf": [bare]}
    keys = {**_keys(kind.keys), **_BODIES.get(name, {})}
    return {**told, "anyOf": [keys, bare]} if bare else {**told, **keys}
