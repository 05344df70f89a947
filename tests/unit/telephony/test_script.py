"""What a robot's script may say, and the line of whatever it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.errors import FlowError
from ivr.telephony.script import Step, load_script

EVERYTHING = """\
language: zh
steps:
  - hears: 欢迎
  - says: 账单
    barge_in: true
    after: 1.5
  - says: {text: billing, confidence: 0.5}
  - hears: eight digit account
    within: 30
  - presses: 0123#
  - silent: 2
  - hangs_up: true
  - expect: {ended: true}
  - expect: {node: main}
"""


def test_every_step_is_read_with_its_line() -> None:
    script = load_script(EVERYTHING, "a.yaml")
    assert script.language == "zh"
    assert script.steps == (
        Step("hears", 3, "欢迎"),
        Step("says", 4, "账单", after=1.5, barge_in=True),
        Step("says", 7, "billing"),
        Step("hears", 8, "eight digit account", within=30.0),
        Step("presses", 10, "0123#"),
        Step("silent", 11, times=2),
        Step("hangs_up", 12),
        Step("expect", 13, "ended"),
        Step("expect", 14, ""),
    )


def test_a_bare_list_is_a_script_in_english() -> None:
    assert load_script("- presses: 1", "a.yaml").steps == (Step("presses", 1, "1"),)
    assert load_script("- presses: 1", "a.yaml").language == "en"


def test_keys_that_look_like_a_number_keep_their_zeros() -> None:
    assert load_script("- presses: 007", "a.yaml").steps[0].text == "007"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- hums: a song", "a.yaml:1:3: E002 a step is exactly one of hears, says, presses"),
        ("- hears: a\n- {hears: a, says: b}", "a.yaml:2:3: E002 a step is exactly one of"),
        ("- just text", "a.yaml:1:3: E002 a step is exactly one of"),
        ("- hears: a\n  wihtin: 3", "a.yaml:2:3: E002 unknown key 'wihtin' beside hears"),
        ("- hears: a\n  barge_in: true", "a.yaml:2:3: E002 unknown key 'barge_in' beside hears"),
        ("- hears: [a]", "a.yaml:1:10: E003 a text of 1 to 1000 characters is wanted"),
        ("- hears:", "a.yaml:1:9: E003 a text of 1 to 1000"),
        ("- says: {confidence: 1}", "a.yaml:1:9: E004 says needs a text:"),
        ("- says: {text: a, loud: 1}", "a.yaml:1:19: E002 unknown key 'loud' in says"),
        ("- presses: 12x", "a.yaml:1:12: E003 keys are 0 to 9"),
        ("- silent: true", "a.yaml:1:11: E003 1 to 20 times"),
        ("- silent: 21", "a.yaml:1:11: E003 1 to 20 times"),
        ("- hears: a\n  within: soon", "a.yaml:2:11: E003 seconds from 0 to 600 are wanted"),
        ("- hears: a\n  within: .nan", "a.yaml:2:11: E003 seconds"),
        ("- says: a\n  barge_in: 1", "a.yaml:2:13: E003 true or false is wanted"),
        ("- hangs_up: false", "a.yaml:1:13: E003 true is wanted"),
        ("- expect: main", "a.yaml:1:11: E003 a mapping is wanted"),
        ("steps: []", "a.yaml:1:8: E003 steps must be a list of 1 to 1000"),
        ("language: en", "a.yaml:1:1: E004 a script needs steps:"),
        ("flow: main\ntests: []", "a.yaml:1:1: E002 unknown key 'flow'"),
        ("- [", "a.yaml:"),
        ("", "a.yaml:0:0: E001 the file is empty"),
        ("x" * (1 << 20) + "x", "E001 larger than 1 MiB"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(FlowError) as caught:
        load_script(text, "a.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(0, len(EVERYTHING)), st.text(max_size=3), st.integers(0, 5))
def test_a_broken_script_is_refused_in_one_way_only(at: int, put: str, drop: int) -> None:
    try:
        load_script(EVERYTHING[:at] + put + EVERYTHING[at + drop :], "a.yaml")
    except FlowError as error:
        assert str(error).startswith("a.yaml:")
