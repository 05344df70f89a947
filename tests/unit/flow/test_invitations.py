"""What an invitation to another channel says: it is read, whatever the customer is on."""

from ivr.flow.events import Invite
from tests.unit.flow.caller import Caller, bundle

FLOW = """\
flow: main
start: a
slots: {day: {type: date, value: "2026-11-24"}, hour: {type: time, value: "15:20"}}
nodes:
  a:
    offer:
      channels: [sms]
      ask: "It is on {day:date}. Shall I text you that?"
      message: "{day:date}, {hour:time}: {link} ({code})"
    then: bye
  bye: {end: Goodbye.}
"""


def test_an_invitation_is_written_though_the_question_is_spoken() -> None:
    caller = Caller(bundle(FLOW))
    assert caller.said == "It is on November twenty fourth. Shall I text you that?"
    caller.says("yes")
    assert caller.did(Invite).text == "November 24, 3:20 PM: {link} ({code})"
