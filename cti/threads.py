"""What happens in a thread, as agents' screens are told it and as servers tell it each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast, get_args

from cti.popcard import ChatMessage, FileCard
from cti.protocol import CustomerRead, CustomerTyping, NewMessage, ServerMessage
from ivr.model import Text
from ivr.ports import ReadUpTo, TextNews, Typing, Wrote

_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(TextNews)}


def message(text: Text) -> ChatMessage:
    """A text as a card shows it. What answered a question for a secret is dots already."""
    return ChatMessage(
        id=text.id,
        who=cast(Any, text.who),
        name=text.name,
        text=text.text or " · ".join(label for _, label in text.choices),
        at=text.at,
        file=FileCard.model_validate(text.file) if text.file else None,
        status=cast(Any, text.status),
    )


def for_agents(conversation_id: str, news: TextNews) -> ServerMessage | None:
    """What a screen is told; None for what the agents themselves have done."""
    match news:
        case Wrote(text):
            return NewMessage(conversation=conversation_id, message=message(text))
        case Typing("customer", on):
            return CustomerTyping(conversation=conversation_id, on=on)
        case ReadUpTo("customer", _, text_id):
            return CustomerRead(conversation=conversation_id, up_to=text_id)
    return None


def to_json(news: TextNews) -> dict[str, Any]:
    """As JSON values, its kind under `news`."""
    told = {"news": type(news).__name__, **asdict(news)}
    if isinstance(news, Wrote):
        told["text"]["at"] = news.text.at.isoformat()
    return told


def from_json(told: Mapping[str, Any]) -> TextNews:
    """The inverse. Raises KeyError, TypeError or ValueError on anything else."""
    fields = dict(told)
    kind = _KINDS[fields.pop("news")]
    if kind is Wrote:
        text = dict(fields["text"])
        text["at"] = datetime.fromisoformat(text["at"])
        text["choices"] = tuple((key, label) for key, label in text["choices"])
        fields["text"] = Text(**text)
    return cast(TextNews, kind(**fields))
