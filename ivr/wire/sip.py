"""SIP as it really comes, made into what a strict parser takes; and the digest that lets us in.

Pure. RFC 3261 lets the same header be written in many ways (compact names, any case, several lines,
several values in one line); pyVoIP reads one of them. Nothing here knows a socket or a clock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from ivr.errors import RemoteProtocolError

LARGEST = 16 * 1024
"""Bytes of a datagram that are read at all; a call's INVITE has one or two thousand."""

MOST_HEADERS = 100

_COMPACT = {
    "v": "Via",
    "f": "From",
    "t": "To",
    "i": "Call-ID",
    "m": "Contact",
    "l": "Content-Length",
    "c": "Content-Type",
    "k": "Supported",
    "s": "Subject",
    "e": "Content-Encoding",
}
_NAMES = {
    name.lower(): name
    for name in (
        *("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Content-Length", "Content-Type"),
        *("Supported", "Allow", "Expires", "Min-Expires", "Record-Route", "Max-Forwards"),
        *("WWW-Authenticate", "Proxy-Authenticate", "Authorization", "Content-Encoding"),
    )
}
_LISTS = frozenset({"Via", "Record-Route"})
"""Headers whose every value counts, and in their order."""

_START = re.compile(r"(?:SIP/2\.0 \d{3}(?: .*)?|[A-Z]{1,20} \S+ SIP/2\.0)")
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]+)')


@dataclass(frozen=True, slots=True)
class Tidied:
    """A message in the one form that pyVoIP reads, and what it would lose of it.

    `vias` and `routes` are the values of Via and Record-Route, `challenge` the parameters of a
    digest that is asked for, and `proxy` whether a proxy asks."""

    text: bytes
    vias: tuple[str, ...]
    routes: tuple[str, ...]
    challenge: Mapping[str, str] = field(default_factory=dict)
    proxy: bool = False


def tidy(datagram: bytes) -> Tidied:
    """Write a message anew. Raises RemoteProtocolError for what is no SIP message, or one without
    the headers that every answer to it needs."""
    if len(datagram) > LARGEST:
        raise RemoteProtocolError(f"SIP message of {len(datagram)} bytes; {LARGEST} are read")
    head, _, body = datagram.replace(b"\0", b"").partition(b"\r\n\r\n")
    lines = re.split(r"\r\n|\r|\n", head.decode("utf-8", "replace"))
    start = lines.pop(0)
    if not _START.fullmatch(start):
        raise RemoteProtocolError("not a SIP message")
    if len(lines) > MOST_HEADERS:
        raise RemoteProtocolError(f"SIP message of {len(lines)} header lines")
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    headers: dict[str, str] = {}
    challenge: Mapping[str, str] = {}
    proxy = False
    for name, value in _unfolded(lines):
        if name in _LISTS:
            lists[name] += _values(value)
        elif name in ("WWW-Authenticate", "Proxy-Authenticate"):
            asked = _challenge(value)
            if asked and not challenge:
                challenge, proxy = asked, name.startswith("Proxy")
        else:
            headers.setdefault(name, value)
    missing = [name for name in ("From", "To", "Call-ID", "CSeq") if not headers.get(name)]
    if missing or not lists["Via"]:
        raise RemoteProtocolError(f"SIP message without {missing[0] if missing else 'Via'}")
    if not re.fullmatch(r"\d{1,10} +[A-Z]{1,20}", headers["CSeq"]):
        raise RemoteProtocolError("SIP message with a wrong CSeq")
    headers["CSeq"] = " ".join(headers["CSeq"].split())
    headers["Content-Length"] = str(len(body))
    written = [start, *(f"Via: {via}" for via in lists["Via"])]
    written += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(written).encode() + b"\r\n\r\n" + body.split(b"\r\n\r\n")[0]
    return Tidied(text, tuple(lists["Via"]), tuple(lists["Record-Route"]), challenge, proxy)


def _unfolded(lines: list[str]) -> list[tuple[str, str]]:
    """Names as RFC 3261 spells them, and values in one line each. What is no header is left out."""
    found: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and found:
            name, value = found[-1]
            found[-1] = name, f"{value} {line.strip()}"
            continue
        name, colon, value = line.partition(":")
        plain = name.strip().lower()
        if colon and plain:
            known = _COMPACT.get(plain) or _NAMES.get(plain) or name.strip()
            found.append((known, value.strip()))
    return found


def _values(text: str) -> list[str]:
    """The values of a list header; a comma within quotes or angle brackets parts nothing."""
    found = re.findall(r'(?:"[^"]*"|<[^>]*>|[^,"<])+', text)
    return [part.strip() for part in found if part.strip()]


def _challenge(value: str) -> Mapping[str, str]:
    """The parameters of a digest that we can compute, {} for any other challenge."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "digest":
        return {}
    asked = {name.lower(): given.strip('"') for name, given in _PARAMETER.findall(rest)}
    if not {"realm", "nonce"} <= set(asked) or asked.get("algorithm", "MD5").upper() != "MD5":
        return {}
    return asked


def authorization(
    asked: Mapping[str, str], *, user: str, password: str, method: str, uri: str, nonce: str
) -> str:
    """The value of an Authorization header that answers a challenge (RFC 7616, MD5). `nonce` is
    ours, for servers that ask for `qop`."""
    realm, theirs = asked["realm"], asked["nonce"]
    secret = _md5(f"{user}:{realm}:{password}")
    target = _md5(f"{method}:{uri}")
    parts = {"username": user, "realm": realm, "nonce": theirs, "uri": uri}
    plain = {"algorithm": "MD5"}
    if "auth" in re.split(r"[\s,]+", asked.get("qop", "")):
        plain |= {"qop": "auth", "nc": "00000001"}
        parts["cnonce"] = nonce
        parts["response"] = _md5(f"{secret}:{theirs}:00000001:{nonce}:auth:{target}")
    else:
        parts["response"] = _md5(f"{secret}:{theirs}:{target}")
    if "opaque" in asked:
        parts["opaque"] = asked["opaque"]
    quoted = [f'{name}="{value}"' for name, value in parts.items()]
    return "Digest " + ",".join(quoted + [f"{name}={value}" for name, value in plain.items()])


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# --- what is said of the audio -------------------------------------------------------------------

_MIRRORED = {"sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
_MOST_MEDIA = 16


@dataclass(frozen=True, slots=True)
class Media:
    """What the other side's SDP (RFC 8866) says of the audio that we take.

    `remote` is where it wants it, None while it holds the call; `keys` its payload type of
    telephone events; `direction` what we answer to its own; `before` and `after` the lines that
    refuse what else it offered (RFC 3264, section 6: every line of an offer has its answer)."""

    remote: tuple[str, int] | None
    keys: int | None
    direction: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def described(sdp: str) -> Media:
    """Read an offer or an answer. Raises RemoteProtocolError where there is no µ-law in it, or an
    address that audio cannot be sent to."""
    session: list[str] = []
    sections: list[list[str]] = []
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([line])
        else:
            (sections[-1] if sections else session).append(line)
    if len(sections) > _MOST_MEDIA:
        raise RemoteProtocolError(f"SDP with {len(sections)} media")
    taken = next((at for at, section in enumerate(sections) if _speaks_ulaw(section[0])), None)
    if taken is None:
        raise RemoteProtocolError("the other side speaks no µ-law: allow ulaw on its endpoint")
    lines = sections[taken]
    port = int(lines[0].split()[1].partition("/")[0])
    direction = _direction(lines) or _direction(session) or "sendrecv"
    refused = [f"m={section[0][2:].split()[0]} 0 {_profile(section[0])}" for section in sections]
    return Media(
        _remote(lines, session, port, direction),
        _keys(lines),
        _MIRRORED.get(direction, "sendrecv"),
        tuple(refused[:taken]),
        tuple(refused[taken + 1 :]),
    )


def _speaks_ulaw(line: str) -> bool:
    parts = line.split()
    return (
        len(parts) > 3
        and parts[0] == "m=audio"
        and re.fullmatch(r"[1-9]\d{0,4}(?:/\d{1,3})?", parts[1]) is not None
        and parts[2] == "RTP/AVP"
        and "0" in parts[3:]
    )


def _profile(line: str) -> str:
    parts = line.split()
    return f"{parts[2]} {parts[3]}" if len(parts) > 3 else "RTP/AVP 0"


def _direction(lines: list[str]) -> str:
    found = [line[2:].strip() for line in lines if line.startswith("a=")]
    return next((each for each in found if each in _MIRRORED or each == "sendrecv"), "")


def _remote(
    lines: list[str], session: list[str], port: int, direction: str
) -> tuple[str, int] | None:
    """Raises RemoteProtocolError for what is no IPv4 address of one host. A name is none: looking
    it up would hold up every call."""
    for line in (*lines, *session):
        if found := re.fullmatch(r"c=IN IP4 (\S+)\s*", line):
            break
    else:
        raise RemoteProtocolError("SDP without an IPv4 address")
    try:
        address = IPv4Address(found[1])
    except AddressValueError:
        raise RemoteProtocolError("SDP with an address that is none") from None
    if address.is_multicast or address == IPv4Address("255.255.255.255") or port > 65535:
        raise RemoteProtocolError(f"SDP with an address that is nobody's: {address}")
    held = address.is_unspecified or direction in ("sendonly", "inactive")
    return None if held else (str(address), port)


def _keys(lines: list[str]) -> int | None:
    for line in lines:
        if found := re.match(r"a=rtpmap:(\d{1,3}) telephone-event/8000", line, re.I):
            return int(found[1]) & 0x7F
    return None


# --- who it is -----------------------------------------------------------------------------------


def party(value: str) -> tuple[str, str]:
    """A From or To header without its tag, and the tag, "" where there is none."""
    found = re.search(r";\s*tag\s*=\s*([^;,\s>]+)[^>]*$", value)
    return (value[: found.start()].rstrip(), found[1]) if found else (value, "")


def number(address: str) -> str:
    """Whom a From or To header names: the user of its URI, "" where there is none."""
    found = re.search(r"(?:sips?:([^@<>;?\s]*)@|tel:([^<>;?\s]*))", address)
    if found is None:
        return ""
    user = found[1] or found[2] or ""
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), user)[:80]
