"""CEL expressions over JSON values, compiled once to closures whose work is bounded.

The grammar is cel-python's. Its evaluators are not used: they refuse `12.5 * 2`, have no bound on
work, and need 50 to 250 µs where a menu asks a dozen questions; the parse tree is turned into
closures here instead (one to ten µs). What a flow's author may rely on:

- Values are JSON: null, bool, numbers, text, lists, maps. Whole and fractional numbers mix freely,
  and are equal when they are worth the same; two whole numbers divide to a whole number, as in CEL.
- An unset slot is null. Next to a number (`+ - * / %`, `<` and so on) null counts as 0, next to
  text as "", and as a condition it is false; only `==` tells it apart. So `tries + 1` counts.
- A field that a map lacks is an error, as in CEL: ask `has(customer.overdue)` first.
- `size int double string bool has`, `contains startsWith endsWith matches trim lowerAscii
  upperAscii`, and `all exists exists_one filter map`. A pattern for `matches` is a literal: it is
  never taken from a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]
from celpy.celparser import CELParseError, CELParser
from celpy.evaluation import celstr
from lark import Token, Tree

from ivr.flow.cel_values import (
    ARITHMETIC,
    FUNCTIONS,
    INTEGERS,
    MACROS,
    METHODS,
    STEP_LIMIT,
    EvaluationError,
    Frame,
    bounded,
    check_size,
    contains,
    equal,
    is_number,
    kind,
    texts,
    truth,
)

SOURCE_LIMIT = 1_000
DEPTH_LIMIT = 60

_Run = Callable[[Frame], Any]


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression ready to be evaluated any number of times. `names` are the values it reads."""

    source: str
    names: frozenset[str]
    _run: _Run = field(repr=False, compare=False)

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The JSON value for these names. Raises EvaluationError, and nothing else."""
        frame = Frame(names, STEP_LIMIT)
        try:
            value = self._run(frame)
        except EvaluationError:
            raise
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            raise EvaluationError(f"cannot work this out: {error}") from error
        check_size(value)
        return value


# --- from the parse tree to closures ------------------------------------------------------------


class _Compiler:
    """Walks one parse tree; `names` gathers what it reads, `size` how much work one pass is."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.scope: list[str] = []
        self.size = 0
        self.depth = 0

    def expression(self, node: Tree[Token]) -> _Run:
        self.size += 1
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise ValueError("the expression is nested too deeply")
        node = _innermost(node)
        try:
            build = getattr(self, f"_{node.data}", None)
            if build is None:
                raise _refusal(node, "this is not part of the language of flows")
            run: _Run = build(node)
            return run
        finally:
            self.depth -= 1

    def _expr(self, node: Tree[Token]) -> _Run:
        condition, yes, no = (self.expression(child) for child in _trees(node))
        return lambda frame: yes(frame) if truth(condition(frame)) else no(frame)

    def _conditionalor(self, node: Tree[Token]) -> _Run:
        left, right = (self.expression(child) for child in _trees(node))
        return lambda frame: truth(left(frame)) or truth(right(frame))

    def _conditionaland(self, node: Tree[Token]) -> _Run:
        left, right = (self.expression(child) for child in _trees(node))
        return lambda frame: truth(left(frame)) and truth(right(frame))

    def _relation(self, node: Tree[Token]) -> _Run:
        sign, second = _trees(node)
        left, right = self.expression(_trees(sign)[0]), self.expression(second)
        if sign.data == "relation_eq":
            return lambda frame: equal(frame, left(frame), right(frame))
        if sign.data == "relation_ne":
            return lambda frame: not equal(frame, left(frame), right(frame))
        if sign.data == "relation_in":
            return lambda frame: contains(frame, left(frame), right(frame))
        compare = ARITHMETIC[sign.data]
        return lambda frame: compare(left(frame), right(frame))

    def _addition(self, node: Tree[Token]) -> _Run:
        sign, second = _trees(node)
        left, right = self.expression(_trees(sign)[0]), self.expression(second)
        apply = ARITHMETIC[sign.data]
        return lambda frame: bounded(apply(left(frame), right(frame)))

    _multiplication = _addition

    def _unary(self, node: Tree[Token]) -> _Run:
        sign, second = _trees(node)
        value = self.expression(second)
        if sign.data == "unary_not":
            return lambda frame: not truth(value(frame))
        negate = ARITHMETIC["addition_sub"]
        return lambda frame: bounded(negate(0, value(frame)))

    def _literal(self, node: Tree[Token]) -> _Run:
        token = _token(node, 0)
        value = _literal(token)
        return lambda frame: value

    def _ident(self, node: Tree[Token]) -> _Run:
        name = str(_token(node, 0))
        if name == "null":
            return lambda frame: None
        if name not in self.scope:
            self.names.add(name)

        def run(frame: Frame) -> Any:
            try:
                return frame.names[name]
            except KeyError:
                raise EvaluationError(f"there is no {name}") from None

        return run

    def _member_dot(self, node: Tree[Token]) -> _Run:
        holder, name = self.expression(_trees(node)[0]), str(_token(node, 1))

        def run(frame: Frame) -> Any:
            value = holder(frame)
            if not isinstance(value, Mapping):
                raise EvaluationError(f".{name} of {kind(value)}")
            try:
                return value[name]
            except KeyError:
                raise EvaluationError(f"there is no field {name}") from None

        return run

    def _member_index(self, node: Tree[Token]) -> _Run:
        first, second = _trees(node)
        holder, index = self.expression(first), self.expression(second)

        def run(frame: Frame) -> Any:
            value, key = holder(frame), index(frame)
            if isinstance(value, list) and is_number(key) and key == int(key):
                if 0 <= key < len(value):
                    return value[int(key)]
                raise EvaluationError(f"the list has no item {int(key)}")
            if isinstance(value, dict) and isinstance(key, str):
                if key in value:
                    return value[key]
                raise EvaluationError(f"there is no field {key[:40]!r}")
            raise EvaluationError(f"{kind(value)} cannot be indexed by {kind(key)}")

        return run

    def _list_lit(self, node: Tree[Token]) -> _Run:
        items = [self.expression(child) for child in _arguments(node, 0)]
        return lambda frame: [item(frame) for item in items]

    def _map_lit(self, node: Tree[Token]) -> _Run:
        parts = [self.expression(child) for child in _arguments(node, 0)]
        pairs = list(zip(parts[::2], parts[1::2], strict=True))

        def run(frame: Frame) -> dict[str, Any]:
            result = {}
            for key, value in pairs:
                name = key(frame)
                if not isinstance(name, str):
                    raise EvaluationError(f"a map's key is {kind(name)}, not text")
                result[name] = value(frame)
            return result

        return run

    def _ident_arg(self, node: Tree[Token]) -> _Run:
        name, arguments = _token(node, 0), _arguments(node, 1)
        if name == "has":
            return self._has(name, arguments)
        apply = FUNCTIONS.get(str(name))
        if apply is None:
            raise _refusal(name, f"there is no function {name}(); there are {_listed(FUNCTIONS)}")
        if len(arguments) != 1:
            raise _refusal(name, f"{name}() takes one value")
        value = self.expression(arguments[0])
        return lambda frame: apply(value(frame))

    def _has(self, name: Token, arguments: list[Tree[Token]]) -> _Run:
        node = _innermost(arguments[0]) if len(arguments) == 1 else None
        if node is None or node.data != "member_dot":
            raise _refusal(name, "has() takes one field, such as has(customer.name)")
        holder, key = self.expression(_trees(node)[0]), str(_token(node, 1))

        def run(frame: Frame) -> bool:
            try:
                value = holder(frame)
            except EvaluationError:
                return False
            return isinstance(value, Mapping) and value.get(key) is not None

        return run

    def _member_dot_arg(self, node: Tree[Token]) -> _Run:
        receiver, name, arguments = _trees(node)[0], _token(node, 1), _arguments(node, 2)
        if str(name) in MACROS:
            return self._macro(receiver, name, arguments)
        holder = self.expression(receiver)
        if name == "matches":
            return self._matches(holder, name, arguments)
        if str(name) not in METHODS:
            known = _listed([*METHODS, "matches", *MACROS])
            raise _refusal(name, f"there is no function .{name}(); there are {known}")
        count, apply = METHODS[str(name)]
        if len(arguments) != count:
            raise _refusal(name, f".{name}() takes {count} value{'s' if count != 1 else ''}")
        values = [self.expression(argument) for argument in arguments]
        return lambda frame: apply(holder(frame), *(value(frame) for value in values))

    def _matches(self, holder: _Run, name: Token, arguments: list[Tree[Token]]) -> _Run:
        node = _innermost(arguments[0]) if len(arguments) == 1 else None
        token = _token(node, 0) if node is not None and node.data == "literal" else None
        if token is None or token.type not in ("STRING_LIT", "MLSTRING_LIT"):
            raise _refusal(name, "matches() takes a pattern written out in quotes")
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 1 << 20
        try:
            pattern = re2.compile(str(celstr(token)), options)
        except re2.error as error:
            raise _refusal(token, f"this pattern is wrong: {_one_line(error)}") from error
        return lambda frame: texts("matches", lambda text: bool(pattern.search(text)))(
            holder(frame)
        )

    def _macro(self, receiver: Tree[Token], name: Token, arguments: list[Tree[Token]]) -> _Run:
        counts, combine = MACROS[str(name)]
        node = _innermost(arguments[0]) if arguments else None
        if node is None or node.data != "ident" or len(arguments) - 1 not in counts:
            raise _refusal(name, f".{name}() takes a name and an expression, as in x, x > 1")
        source, variable = self.expression(receiver), str(_token(node, 0))
        before = self.size
        self.scope.append(variable)
        bodies = [self.expression(argument) for argument in arguments[1:]]
        self.scope.pop()
        cost = self.size - before

        def items(frame: Frame) -> Any:
            container = source(frame)
            if container is None:
                return
            if not isinstance(container, list | dict):
                raise EvaluationError(f".{name}() of {kind(container)} has no meaning")
            names = dict(frame.names)
            inner = Frame(names, 0)
            for item in container:
                frame.spend(cost)
                names[variable] = item
                inner.steps = frame.steps
                found = [bodies[0](inner)]
                if len(bodies) > 1:
                    found.append(bodies[1](inner) if truth(found[0]) else None)
                frame.steps = inner.steps
                yield item, found

        return lambda frame: combine(items(frame))


def _innermost(node: Tree[Token]) -> Tree[Token]:
    """Past the grammar's rules that only pass their one child on."""
    while node.data not in ("list_lit", "map_lit") and len(node.children) == 1:
        child = node.children[0]
        if not isinstance(child, Tree):
            break
        node = child
    return node


def _trees(node: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree)]


def _token(node: Tree[Token], index: int) -> Token:
    token = node.children[index]
    assert isinstance(token, Token)
    return token


def _arguments(node: Tree[Token], index: int) -> list[Tree[Token]]:
    return _trees(_trees(node)[-1]) if len(node.children) > index else []


def _listed(names: Any) -> str:
    return ", ".join(names)


def _refusal(place: Any, message: str) -> ValueError:
    column = getattr(place, "column", None) or getattr(getattr(place, "meta", None), "column", None)
    return ValueError(f"column {column}: {message}" if column else message)


def _one_line(error: object) -> str:
    if error and isinstance(error, BaseException) and error.args:
        error = error.args[0]
    text = error.decode("utf-8", "replace") if isinstance(error, bytes) else str(error)
    return " ".join(text.split())[:200]


def _literal(token: Token) -> Any:
    text = str(token)
    if token.type in ("STRING_LIT", "MLSTRING_LIT"):
        try:
            text = str(celstr(token))
            text.encode()
            return text
        except ValueError:
            raise _refusal(token, "this text holds an escape that means nothing") from None
    if token.type == "INT_LIT":
        value = int(text, 16 if "0x" in text else 10)
        if value not in INTEGERS:
            raise _refusal(token, "the number is too large")
        return value
    if token.type == "UINT_LIT":
        return int(text[:-1], 16 if "0x" in text else 10)
    if token.type == "FLOAT_LIT":
        return float(text)
    if token.type in ("BOOL_LIT", "NULL_LIT"):
        return {"true": True, "false": False, "null": None}[text]
    raise _refusal(token, "bytes have no place in a flow")


@lru_cache(maxsize=1_024)
def compile_expression(source: str) -> Compiled:
    """The expression, checked and ready. Raises ValueError with one line that names the column."""
    if len(source) > SOURCE_LIMIT:
        raise ValueError(f"the expression is longer than {SOURCE_LIMIT} characters")
    if not source.strip():
        raise ValueError("the expression is empty")
    try:
        tree: Tree[Token] = CELParser().parse(source)
    except CELParseError as error:
        raise ValueError(_syntax_error(source, error)) from None
    compiler = _Compiler()
    run = compiler.expression(tree)
    return Compiled(source, frozenset(compiler.names), run)


def _syntax_error(source: str, error: CELParseError) -> str:
    column = error.column or 0
    if column < 1 or getattr(getattr(error.__context__, "token", None), "type", "") == "$END":
        return f"column {len(source) + 1}: the expression ends too early"
    rest = source.splitlines()[max((error.line or 1) - 1, 0)][column - 1 :].strip()
    found = re.match(r"\w+|\W", rest)
    return (
        f"column {column}: {found.group()!r} does not fit here"
        if found
        else (f"column {column}: the expression ends too early")
    )
