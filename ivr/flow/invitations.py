"""Takes a customer to another channel: invites them to one after the other until they turn up."""

from __future__ import annotations

from ivr.flow import lexicon
from ivr.flow.events import Invite
from ivr.flow.run import AGAIN, Run
from ivr.flow.schema import QUESTIONS, OfferNode, QueueNode

_HOLES = {"link": "{link}", "code": "{code}"}
"""The sender fills these; the engine leaves them as they are."""


def elsewhere(run: Run, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Of the channels those that the customer is not on."""
    return tuple(channel for channel in channels if channel not in run.state.channels)


def invite(run: Run, channels: tuple[str, ...], *, asked: bool = False) -> str:
    """Invite the customer to the first of the channels that they are not on. `asked` says that the
    customer wished it in the middle of a question, which goes on there."""
    ahead = elsewhere(run, channels)
    node = run.flow.nodes[run.frame.node]
    if not ahead:
        run.say_own("not_invited")
        return node.otherwise if isinstance(node, OfferNode) and not asked else go_on(run)
    offer = node if isinstance(node, OfferNode) and not asked else None
    text, language, _ = run.render(offer.message, _HOLES, voice=False) if offer else ("", "", "")
    if not text:
        language = run.state.language
        text = lexicon.in_language(lexicon.SENTENCES, language)["invite"]
    invitation = run.new_id("invite")
    mode = offer.mode if offer else "move"
    run.wait("invite", invitation, channels=ahead[1:], channel=ahead[0], asked=asked)
    run.emit(Invite(invitation, ahead[0], text, language, mode))
    run.note("channel_invited", channel=ahead[0])
    return AGAIN


def not_arrived(run: Run, reason: str) -> str:
    """The customer did not turn up there: try the next channel, or go on here."""
    waiting = run.state.waiting
    run.note("channel_failed", channel=waiting.channel, reason=reason)
    return invite(run, waiting.channels, asked=waiting.asked)


def go_on(run: Run) -> str:
    """Go on with what an invitation interrupted: a question, or the queue."""
    node = run.flow.nodes[run.frame.node]
    if isinstance(node, QUESTIONS):
        run.wait("answer")
        return AGAIN
    return run.frame.node if isinstance(node, QueueNode) else ""
