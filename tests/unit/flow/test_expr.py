"""Expressions and prompts do what a flow's author expects, and never more work than they may."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.flow.expr import EvaluationError, compile_expression, parse_prompt

NAMES: dict[str, Any] = {
    "customer": {"name": "Ann", "overdue": 12.5, "vip": True, "bills": [{"due": 5}, {"due": 0}]},
    "tries": 2,
    "unset": None,
    "account": "12345678",
    "ok": True,
    "many": list(range(100_000)),
    "long": "a" * 100_000,
    "list": list(range(1_000)),
}


def evaluate(source: str) -> Any:
    return compile_expression(source).evaluate(NAMES)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("customer.overdue > 0", True),
        ("customer.overdue > 12.5", False),
        ("customer.vip ? 10 : 0", 10),
        ("tries + 1", 3),
        ("tries-1", 1),
        ("tries -1", 1),
        ("unset + 1", 1),
        ("unset > 0", False),
        ("unset == null", True),
        ("unset == 0", False),
        ("unset ? 1 : 2", 2),
        ("!unset", True),
        ("'a' + unset", "a"),
        ("'hello'", "hello"),
        ('"hello"', "hello"),
        ("'it\\'s'", "it's"),
        ("1 + 0.5", 1.5),
        ("customer.overdue * 2", 25.0),
        ("tries * 1.5 - 2", 1.0),
        ("5 / 2", 2),
        ("-5 / 2", -2),
        ("5.0 / 2", 2.5),
        ("5 % 3", 2),
        ("1 == 1.0", True),
        ("1 != 1.5", True),
        ("true == 1", False),
        ("'1' == 1", False),
        ("[1, 2] == [1.0, 2]", True),
        ("{'a': 1} == {'a': 1}", True),
        ("account == '12345678' && ok", True),
        ("account == 'x' || tries >= 2", True),
        ("false && missing", False),
        ("true || missing", True),
        ("'a' < 'b'", True),
        ("account.startsWith('123')", True),
        ("account.endsWith('8') && account.contains('45')", True),
        ("account.matches('^[0-9]{8}$')", True),
        ("customer.name.lowerAscii() == 'ann'", True),
        ("' x '.trim()", "x"),
        ("size(account) == 8", True),
        ("account.size()", 8),
        ("size(unset)", 0),
        ("int('42') + 1", 43),
        ("int(12.9)", 12),
        ("double('1.5')", 1.5),
        ("string(12.0)", "12"),
        ("string(tries) + 'x'", "2x"),
        ("bool('true')", True),
        ("tries in [1, 2, 3]", True),
        ("'name' in customer", True),
        ("has(customer.name)", True),
        ("has(customer.nothing)", False),
        ("has(unset.nothing)", False),
        ("customer['name']", "Ann"),
        ("customer.bills[0].due", 5),
        ("customer.bills.exists(b, b.due > 0)", True),
        ("customer.bills.all(b, b.due > 0)", False),
        ("customer.bills.exists_one(b, b.due > 0)", True),
        ("customer.bills.map(b, b.due)", [5, 0]),
        ("customer.bills.map(b, b.due > 0, b.due + 1)", [6]),
        ("customer.bills.filter(b, b.due > 0)", [{"due": 5}]),
        ("customer.bills.all(b, customer.bills.exists(c, c.due == b.due))", True),
        ("{'a': tries}.a", 2),
        ("!(tries > 1)", False),
        ("--tries", 2),
        ("((((tries))))", 2),
        ("tries > 5 ? 'many' : tries > 1 ? 'some' : 'few'", "some"),
        ("0x10", 16),
        ("1 // the rest is a remark", 1),
    ],
)
def test_an_expression_has_the_value_its_author_expects(source: str, value: Any) -> None:
    found = evaluate(source)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("overdue", [0, 0.0])
def test_nothing_overdue_is_not_overdue_however_json_wrote_it(overdue: float) -> None:
    assert (
        compile_expression("customer.overdue > 0").evaluate({"customer": {"overdue": overdue}})
        is False
    )


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("customer.overdue > tries", {"customer", "tries"}),
        ("customer.bills.all(b, b.due > limit)", {"customer", "limit"}),
        ("1 + 1", set()),
        ("has(customer.name)", {"customer"}),
        ("list.map(x, x) + [x]", {"list", "x"}),
        ("size(account)", {"account"}),
    ],
)
def test_the_names_that_an_expression_reads_are_known(source: str, names: set[str]) -> None:
    assert compile_expression(source).names == names


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("tries >", "ends too early"),
        ("tries + + ", "ends too early|does not fit"),
        ("a b", "column 3: 'b' does not fit here"),
        ("(a", "ends too early"),
        ("a)", "column 2: '\\)' does not fit here"),
        ("a = 1", "column 3: '='"),
        ("'open", "does not fit"),
        ("shout(a)", "column 1: there is no function shout"),
        ("1 + a.shout()", "column 7: there is no function .shout"),
        ("size(a, b)", "takes one value"),
        ("a.startsWith()", "takes 1 value"),
        ("a.matches(b)", "pattern written out"),
        ("a.matches('(')", "pattern is wrong"),
        ("a.matches('(a{1000}){1000}')", "pattern is wrong"),
        ("has(a)", "has"),
        ("a.map(1, 2)", "a name and an expression"),
        ("b'bytes'", "bytes"),
        ("Type{a: 1}", "not part of the language"),
        ("9" * 30, "too large"),
        ("'\\ud800'", "escape"),
        ("a" * 1001, "longer than"),
        ("-" * 900 + "1", "too deep"),
        ("+".join("a" * 400), "too deep"),
        ("[" * 400 + "]" * 400, "too deep"),
        ("__import__('os')", "no function"),
    ],
)
def test_what_does_not_compile_says_why_in_one_line(source: str, message: str) -> None:
    begin = perf_counter()
    with pytest.raises(ValueError, match=message) as caught:
        compile_expression(source)
    assert "\n" not in str(caught.value)
    assert perf_counter() - begin < 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "there is no missing"),
        ("customer.missing", "there is no field missing"),
        ("tries.x", ".x of a number"),
        ("unset.x", ".x of nothing"),
        ("account + 1", "text \\+ a number"),
        ("account - 'a'", "no meaning"),
        ("account > 1", "no meaning"),
        ("!tries", "a condition is a number"),
        ("tries && true", "a condition is a number"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("1.5 / 0", "division by zero"),
        ("9223372036854775807 + 1", "too large"),
        ("int(1e300)", "too large"),
        ("1e308 * 10", "not a finite number"),
        ("double('nan')", "not a finite number"),
        ("int('x')", "cannot work this out"),
        ("[1][5]", "no item 5"),
        ("[1][-1]", "no item"),
        ("customer['x']", "no field"),
        ("1 in account", "needs a list"),
        ("many", "too large"),
        ("long", "too long"),
        ("long + long", "too long"),
        ("long.contains('b')", "too long"),
        ("many.map(x, x)", "too much work"),
        ("many.filter(x, x < 0)", "too much work"),
        ("list.map(x, list.map(y, y))", "too much work"),
        ("list.all(x, list.all(y, list.all(z, true)))", "too much work"),
        ("[1]" + ".map(a, [a, a])" * 40, "too large"),
        ("many == many + []", "too long|too much work"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_quickly(source: str, message: str) -> None:
    compiled = compile_expression(source)
    begin = perf_counter()
    with pytest.raises(EvaluationError, match=message) as caught:
        compiled.evaluate(NAMES)
    assert perf_counter() - begin < 0.1
    assert "\n" not in str(caught.value)


def test_an_expression_costs_next_to_nothing() -> None:
    compiled = compile_expression("customer.overdue > 0 && tries + 1 < 5")
    begin = perf_counter()
    for _ in range(1_000):
        compiled.evaluate(NAMES)
    assert (perf_counter() - begin) / 1_000 < 100e-6


def test_evaluation_leaves_the_names_alone() -> None:
    names = {"list": [1, 2]}
    compile_expression("list.map(x, x + 1)").evaluate(names)
    assert names == {"list": [1, 2]}


FRAGMENTS = (
    "customer tries unset account list . ( ) [ ] { } ? : + - * / % ! == < >= && || in , 1 2.5 'a' "
    "null true .name .due .map(x, .all(x, has( size( string( .matches('a') x"
)
fragments = st.sampled_from(FRAGMENTS.split())


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(fragments, max_size=15).map(" ".join)))
def test_no_source_is_too_strange(source: str) -> None:
    try:
        compiled = compile_expression(source)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    try:
        json.dumps(compiled.evaluate({**NAMES, "list": [1, 2, 3]}))
    except EvaluationError as error:
        assert "\n" not in str(error)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    values,
    values,
    st.sampled_from(["+", "-", "*", "/", "%", "<", ">=", "==", "in", "&&", "||", ".x", "[b]"]),
)
def test_no_value_is_too_strange(a: Any, b: Any, sign: str) -> None:
    source = f"a{sign}" if sign in (".x", "[b]") else f"a {sign} b"
    with suppress(EvaluationError):
        compile_expression(source).evaluate({"a": a, "b": b})


# --- prompts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "voice", "text"),
    [
        ("Hello.", True, "Hello."),
        ("Hello {customer.name}.", True, "Hello Ann."),
        ("You owe {customer.overdue:money}.", True, "You owe twelve dollars and fifty cents."),
        ("You owe {customer.overdue:money}.", False, "You owe $12.50."),
        ("Is {account:digits} right?", True, "Is one two three four five six seven eight right?"),
        ("Is {account:digits} right?", False, "Is 12345678 right?"),
        ("{tries}", True, "2"),
        ("{ customer.name }", True, "Ann"),
        ("[{unset}]", True, "[]"),
        ("[{missing.deep.down}]", True, "[]"),
        ("[{unset:money}]", True, "[]"),
        ("{{braces}}", True, "{braces}"),
        ("{{{tries}}}", True, "{2}"),
        ("{ok}", True, "yes"),
        ("{customer}", True, ""),
        ("", True, ""),
    ],
)
def test_a_prompt_is_filled(template: str, voice: bool, text: str) -> None:
    assert parse_prompt(template).render(NAMES, "en", voice=voice) == text


def test_a_prompt_speaks_its_language() -> None:
    prompt = parse_prompt("您欠费{customer.overdue:money}。")
    assert prompt.render(NAMES, "zh", voice=True) == "您欠费十二元五角。"
    assert prompt.render(NAMES, "zh", voice=False) == "您欠费12.50元。"


def test_a_prompt_knows_its_names_and_parts() -> None:
    prompt = parse_prompt("a {customer.name} b {account:digits}{account}")
    assert prompt.names == {"customer", "account"}
    assert prompt.template == "a {customer.name} b {account:digits}{account}"
    assert [
        part if isinstance(part, str) else (part.path, part.format) for part in prompt.parts
    ] == [
        "a ",
        (("customer", "name"), ""),
        " b ",
        (("account",), "digits"),
        (("account",), ""),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "{account}",
        "{{",
        "}",
        "<break time='10s'/>",
        "a\nb",
        "a\x00\x1b[31mb",
        "\u202eabc",
        "a" * 9_999,
    ],
)
def test_a_value_is_data(value: str) -> None:
    text = parse_prompt("[{x}]").render({"x": value, "account": "secret"}, "en", voice=True)
    assert "secret" not in text
    assert text.isprintable()
    assert len(text) <= 502


def test_a_near_date_needs_no_year() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    prompt = parse_prompt("{visit:date}")
    assert prompt.render({"visit": "2026-11-24"}, "en", voice=True, now=now) == (
        "November twenty fourth"
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{", "column 1"),
        ("ab {", "column 4"),
        ("ab }", "column 4"),
        ("{}", "column 1"),
        ("{a:}", "format"),
        ("{a:loud}", "'loud' is not a format"),
        ("{a b}", "column 1"),
        ("{a.}", "column 1"),
        ("{1a}", "column 1"),
        ("{a[0]}", "column 1"),
        ("x{a!r}", "column 2"),
        ("{a" * 3, "column 1"),
        ("a" * 4_001, "longer"),
    ],
)
def test_a_prompt_that_does_not_parse_says_where(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_prompt(template)
    assert "\n" not in str(caught.value)


PIECES = "{ } a . : money x"


@settings(deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES.split())).map("".join)),
    st.dictionaries(st.sampled_from(["a", "x"]), values),
)
def test_no_template_is_too_strange(template: str, names: dict[str, Any]) -> None:
    try:
        prompt = parse_prompt(template)
    except ValueError:
        return
    for voice in (True, False):
        assert isinstance(prompt.render(names, "en", voice=voice), str)
