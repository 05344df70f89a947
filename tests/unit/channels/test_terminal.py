"""What a designer sees and can do in the simulator."""

from __future__ import annotations

from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from ivr.channels.terminal import COMMANDS, Terminal
from ivr.flow.testing import playing, reports, script
from ivr.flow.testing.script import Given
from tests.unit.flow.dialogues import water


class Screen:
    """A terminal with what it has shown."""

    def __init__(self, channel: str = "voice", language: str = ""):
        self.shown: list[tuple[str, str]] = []
        given = Given(channel=channel, language=language)
        self.terminal = Terminal(water(), given, lambda kind, text: self.shown.append((kind, text)))

    def type(self, *lines: str) -> list[str]:
        """Type lines; returns what is shown after the last."""
        for line in lines:
            self.shown.clear()
            self.terminal.line(line)
        return [text for _, text in self.shown]

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.shown}


def test_a_call_begins_with_what_the_flow_says() -> None:
    assert [text for _, text in Screen().shown] == [
        "Welcome to Acme Water.",
        "Say billing, or press 1. Say repairs, or press 2.",
    ]


def test_sms_prints_the_choices_too() -> None:
    shown = [text for _, text in Screen("sms").shown]
    assert shown[-6:] == ["1 bill", "2 repairs", "3 secret", "4 message", "5 phone", "6 text"]


def test_lines_are_speech_and_slashes_are_commands() -> None:
    screen = Screen()
    assert screen.type("my bill") == ["What is your eight digit account number?"]
    assert "Is that right?" in screen.type("/unsure one two three four five six seven eight")[0]
    assert screen.type("yes")[0] == "the flow asks GET crm/customers/12345678"
    shown = screen.type('/fetch {"overdue": 0, "balance": 12.5}')
    assert shown[0] == "Your balance is twelve dollars and fifty cents."


def test_a_pending_fetch_must_be_answered_first() -> None:
    screen = Screen()
    assert "the flow asks GET crm/customers/12345678" in screen.type("/press 112345678")
    assert screen.type("hello") == ["first answer GET crm/customers/12345678, with /fetch"]
    assert "neither JSON" in screen.type("/fetch {")[0]
    assert any("in the queue" in line for line in screen.type("/fetch 404"))


def test_slots_are_shown_and_secrets_are_not() -> None:
    screen = Screen()
    assert screen.type("/slots") == ["nothing is known yet"]
    screen.type("/press 3", "/press 4711")
    shown = screen.type("/slots")
    assert "pin = (secret)" in shown
    assert not any("4711" in line for line in shown)


def test_why_tells_the_last_step_and_the_place_in_the_file() -> None:
    shown = Screen().type("billing", "/why")
    assert any('choice "billing"' in line for line in shown)
    assert shown[-1] == "now at account (water.yaml:26), waiting for answer"


def test_silence_hanging_up_and_the_end() -> None:
    screen = Screen()
    assert screen.type("/silent 2")[0] == "I did not hear you."
    assert screen.type("/hangup") == ["the conversation is over (hung_up)"]
    assert screen.terminal.over


def test_other_people_and_channels_can_be_played() -> None:
    screen = Screen()
    screen.type("agent")
    assert "You are number 3." in screen.type("/ahead 2")
    assert "ann has joined; /agent again ends it" in screen.type("/agent")
    screen = Screen()
    screen.type("/press 6")
    assert any(line.startswith("to sms: Acme Water: continue") for line in screen.type("yes"))
    assert screen.type("/join")[0].startswith("Say billing")
    assert screen.type("1")[0].startswith("What is your eight digit")
    screen = Screen()
    assert "calling +442079460123; /transfer says how it goes" in screen.type("/press 5")
    assert any("in the queue" in line for line in screen.type("/transfer busy"))


def test_mistakes_are_told_and_nothing_breaks() -> None:
    screen = Screen()
    for line in (
        "/nothing",
        "/press x",
        "/wait long",
        "/ahead many",
        "/transfer",
        "/agent",
        "/join",
    ):
        assert len(screen.type(line)) == 1, line
        assert screen.kinds == {"wrong"}
    assert {line.split()[0] for line in screen.type("/help")[1:]} == {
        f"/{name}" for name in COMMANDS
    }


def test_values_are_plain_text() -> None:
    screen = Screen()
    screen.type("/press 4", "[red]\x1b[31mhello\x07")
    assert all(text.isprintable() for _, text in screen.shown)


def test_what_was_played_becomes_a_test_that_passes() -> None:
    for channel, lines in (
        (
            "voice",
            [
                "my bill",
                "/press 12345678",
                '/fetch {"overdue": 7}',
                "/silent",
                "agent",
                "/wait 60s",
                "no",
                "/nobody",
            ],
        ),
        ("voice", ["/press 3", "/press 4711", "/fetch fail", "/agent bob", "/agent"]),
        ("voice", ["/press 6", "yes", "/join", "1", "/hangup"]),
        ("voice", ["/unsure billing", "yes", "/hangup"]),
        ("sms", ["4", "My pipe\tleaks \u2028 \U0001f600"]),
    ):
        screen = Screen(channel)
        screen.type(*lines)
        text = screen.terminal.recording("as played")
        assert "4711" not in text
        (case,) = script.read(text, "played.test.yaml").cases
        if "/press 4711" in lines:
            assert "POST crm/checks" in text
        for result in playing.run("played.test.yaml", case, water()):
            assert result.ok, "\n".join([*reports.lines(result), text])


@settings(max_examples=100, deadline=None)
@forall(
    st.lists(
        st.one_of(
            st.sampled_from([f"/{name}" for name in COMMANDS if name != "quit"]),
            st.sampled_from(
                ["1", "agent", "yes", "/press 123#", "/fetch {}", "/wait 5m", "/silent 3"]
            ),
            st.text(max_size=20),
        ),
        max_size=12,
    )
)
def test_whatever_is_typed_the_simulator_goes_on(lines: list[str]) -> None:
    screen = Screen()
    for line in lines:
        screen.terminal.line(line)
        assert all(text.isprintable() for _, text in screen.shown)
    script.read(screen.terminal.recording("x"), "x.test.yaml") if lines else None
