"""What CEL's operators and functions do with JSON values, and how much of it they may do.

See `ivr.flow.cel` for the rules that a flow's author sees.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ivr.flow import spoken

STEP_LIMIT = 20_000
TEXT_LIMIT = 10_000
LIST_LIMIT = 1_000
RESULT_LIMIT = 1_000
INTEGERS = range(-(2**63), 2**63)


class EvaluationError(ValueError):
    """An expression met a value that it cannot work on; the text says which."""


class Frame:
    """One evaluation: the names it may see, and the work it may still do."""

    __slots__ = ("names", "steps")

    def __init__(self, names: Mapping[str, Any], steps: int):
        self.names = names
        self.steps = steps

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise EvaluationError("the expression does too much work")


def kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a map"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_size(value: Any) -> None:
    left, seen = [value], 0
    while left:
        item = left.pop()
        seen += 1
        if seen > RESULT_LIMIT:
            raise EvaluationError("the result is too large")
        if isinstance(item, dict):
            left.extend(item.keys())
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif isinstance(item, str) and len(item) > TEXT_LIMIT:
            raise EvaluationError("the result is too long")
        elif isinstance(item, float) and not math.isfinite(item):
            raise EvaluationError("the result is not a finite number")


def truth(value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    raise EvaluationError(f"a condition is {kind(value)}; compare it with something")


def equal(frame: Frame, left: Any, right: Any) -> bool:
    """Equality over JSON, where true is not 1; charged by element, since values can share parts."""
    frame.spend(1)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            equal(frame, a, b) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(frame, left[k], right[k]) for k in left)
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def bounded(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value not in INTEGERS:
        raise EvaluationError("the number is too large")
    if isinstance(value, str) and len(value) > TEXT_LIMIT:
        raise EvaluationError("the text is too long")
    if isinstance(value, list) and len(value) > LIST_LIMIT:
        raise EvaluationError("the list is too long")
    return value


def _pair(left: Any, right: Any, sign: str) -> tuple[Any, Any]:
    """Both values on one footing: an unset one takes the other's zero."""
    if left is None:
        left = "" if isinstance(right, str) else 0
    if right is None:
        right = "" if isinstance(left, str) else 0
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return left, right
    raise EvaluationError(f"{kind(left)} {sign} {kind(right)} has no meaning")


def _divide(left: Any, right: Any) -> Any:
    if right == 0:
        raise EvaluationError("division by zero")
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _remainder(left: Any, right: Any) -> Any:
    if right == 0:
        raise EvaluationError("division by zero")
    if isinstance(left, float) or isinstance(right, float):
        return math.fmod(left, right)
    return left - right * _divide(left, right)


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, list) and isinstance(right, list):
        return left + right
    left, right = _pair(left, right, "+")
    return left + right


def _numeric(sign: str, apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def run(left: Any, right: Any) -> Any:
        left, right = _pair(left, right, sign)
        if isinstance(left, str):
            raise EvaluationError(f"text {sign} text has no meaning")
        return apply(left, right)

    return run


def _ordered(sign: str, apply: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(left: Any, right: Any) -> bool:
        return apply(*_pair(left, right, sign))

    return run


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "addition_add": _add,
    "addition_sub": _numeric("-", operator.sub),
    "multiplication_mul": _numeric("*", operator.mul),
    "multiplication_div": _numeric("/", _divide),
    "multiplication_mod": _numeric("%", _remainder),
    "relation_lt": _ordered("<", operator.lt),
    "relation_le": _ordered("<=", operator.le),
    "relation_gt": _ordered(">", operator.gt),
    "relation_ge": _ordered(">=", operator.ge),
}


def contains(frame: Frame, item: Any, container: Any) -> bool:
    if isinstance(container, dict):
        return isinstance(item, str) and item in container
    if isinstance(container, list):
        return any(equal(frame, item, other) for other in container)
    if container is None:
        return False
    raise EvaluationError(f"`in` needs a list or a map, not {kind(container)}")


# --- functions ----------------------------------------------------------------------------------


def _size(value: Any) -> int:
    if isinstance(value, str | list | dict):
        return len(value)
    if value is None:
        return 0
    raise EvaluationError(f"size() of {kind(value)} has no meaning")


def _to_int(value: Any) -> int:
    if value is None:
        return 0
    if is_number(value) or (isinstance(value, str) and len(value) <= 30):
        return int(bounded(int(value)))
    raise EvaluationError(f"int() of {kind(value)} has no meaning")


def _to_double(value: Any) -> float:
    if value is None:
        return 0.0
    if is_number(value) or (isinstance(value, str) and len(value) <= 60):
        return float(value)
    raise EvaluationError(f"double() of {kind(value)} has no meaning")


def _to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return spoken.plain(value, "en")
    raise EvaluationError(f"string() of {kind(value)} has no meaning")


def _to_bool(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return truth(value)


def texts(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    def run(*values: Any) -> Any:
        texts = ["" if value is None else value for value in values]
        for value in texts:
            if not isinstance(value, str):
                raise EvaluationError(f"{name}() needs text, not {kind(value)}")
            bounded(value)
        return apply(*texts)

    return run


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "size": _size,
    "int": _to_int,
    "double": _to_double,
    "string": _to_string,
    "bool": _to_bool,
}
# Name: how many arguments follow the receiver, and what is done.
METHODS: dict[str, tuple[int, Callable[..., Any]]] = {
    "size": (0, _size),
    "contains": (1, texts("contains", operator.contains)),
    "startsWith": (1, texts("startsWith", str.startswith)),
    "endsWith": (1, texts("endsWith", str.endswith)),
    "trim": (0, texts("trim", str.strip)),
    "lowerAscii": (0, texts("lowerAscii", str.lower)),
    "upperAscii": (0, texts("upperAscii", str.upper)),
}


def _all(bodies: Any) -> bool:
    return all(truth(found[0]) for _, found in bodies)


def _exists(bodies: Any) -> bool:
    return any(truth(found[0]) for _, found in bodies)


def _exists_one(bodies: Any) -> bool:
    return sum(truth(found[0]) for _, found in bodies) == 1


def _filter(bodies: Any) -> list[Any]:
    return [item for item, found in bodies if truth(found[0])]


def _map(bodies: Any) -> list[Any]:
    return [found[-1] for _, found in bodies if len(found) == 1 or truth(found[0])]


# Name: how many expressions follow the variable, and how their values for each item are used.
MACROS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "all": ((1,), _all),
    "exists": ((1,), _exists),
    "exists_one": ((1,), _exists_one),
    "filter": ((1,), _filter),
    "map": ((1, 2), _map),
}
