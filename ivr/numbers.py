"""Telephone numbers as customers' addresses: however somebody writes one, it is one address."""

from __future__ import annotations

import re

import phonenumbers

from ivr.model import Address, Channel

_BETWEEN = re.compile(r"[\s().\-/\u2010-\u2015\u00a0]")
_DIALLED = re.compile(r"\+?\d{7,15}", re.ASCII)
_NOBODY = frozenset({"", "anonymous", "unknown", "restricted", "private", "unavailable"})
_LONGEST = 64


def caller_address(number: str, region: str) -> Address:
    """The caller's number as E.164 if it is a number, else what came, capped and printable."""
    if e164 := normalised(number, region):
        return Address(Channel.VOICE, e164)
    shown = "".join(char for char in number if char.isprintable())
    return Address(Channel.VOICE, "" if shown == "unknown" else shown[:_LONGEST])


def normalised(number: str, region: str) -> str:
    """E.164, "" for what is no telephone number. One without a country is of `region`."""
    text = phonenumbers.normalize_digits_only(number, True) if len(number) <= _LONGEST else ""
    digits = _BETWEEN.sub("", text)
    if not _DIALLED.fullmatch(digits):
        return ""
    try:
        parsed = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return ""
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE:  # also not: one without its area
        return ""
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def is_nobody(address: Address) -> bool:
    """Whether this is what telephones send in place of a number: no customer's address."""
    return address.value.strip().lower() in _NOBODY
