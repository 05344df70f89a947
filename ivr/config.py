"""The operator's settings: `hotline.toml` and `HOTLINE_…` variables, checked before a start.

A variable wins over the file, and names nested settings with two underscores:
`HOTLINE_WEB__PORT=8090`. `docs/operations.md` lists every setting with its default; a test keeps it
complete.
"""

from __future__ import annotations

import os
import re
from datetime import date, time
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ivr.errors import SettingsError
from ivr.flow.facts import Calendar, Facts

Port = int
_SIP_USER = r"^[0-9A-Za-z*#+._-]{1,64}$"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Section):
    url: str = Field(
        "",
        description="SQLAlchemy URL; empty: SQLite in `state_dir`",
        examples=["postgresql+psycopg://…"],
    )


class WebSettings(_Section):
    host: str = Field("127.0.0.1", description="address of the agents' page and the API")
    port: Port = Field(8088, ge=0, le=65535, description="port of the agents' page and the API")


class AsteriskSettings(_Section):
    """How to reach the PBX, and how `hotline pbx up` runs one of its own."""

    enabled: bool = Field(
        True, description="whether calls come from Asterisk; without it `softphone` answers"
    )
    ami_host: str = Field("127.0.0.1", description="where Asterisk's manager interface listens")
    ami_port: Port = Field(5038, ge=1, le=65535, description="port of the manager interface")
    ami_user: str = Field("hotline", description="manager user")
    ami_secret: str = Field(
        "", description="manager secret; empty: made at first start in `state_dir`"
    )
    agi_host: str = Field(
        "127.0.0.1", description="address on which Asterisk reaches our FastAGI and audio"
    )
    agi_port: Port = Field(4573, ge=1, le=65535, description="port of our FastAGI server")
    audio_port: Port = Field(4574, ge=1, le=65535, description="port of our AudioSocket server")
    sip_host: str = Field("127.0.0.1", description="address of the local PBX's SIP")
    sip_port: Port = Field(5060, ge=1, le=65535, description="port of the local PBX's SIP")
    rtp_start: Port = Field(12000, ge=1024, le=65000, description="first RTP port of the local PBX")
    rtp_end: Port = Field(12999, ge=1024, le=65535, description="last RTP port of the local PBX")
    http_port: Port = Field(
        8088,
        ge=0,
        le=65535,
        description="port of the local PBX's WebSocket for telephones in browsers; 0: none",
    )
    parking_seconds: int = Field(
        120, ge=5, le=3600, description="how long a parked caller waits to be fetched"
    )
    extension: str = Field(
        "100", pattern=r"^\d{2,12}$", description="what callers dial for the hotline"
    )
    trunk: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="PJSIP endpoint that leads outside; empty: no transfer to outside numbers",
    )
    nodes: tuple[str, ...] = Field(
        (), description="FastAGI of other servers (host:port) that take over when this one is away"
    )
    fallback: str = Field(
        "",
        pattern=r"^\d{0,12}$",
        description="extension that rings when no server is back in a minute; empty: an apology",
    )


class SoftphoneAccount(_Section):
    """One extension that the hotline is on the other PBX."""

    password: str = Field("", repr=False, description="SIP password of the extension")


class SoftphoneSettings(_Section):
    """The hotline as an extension of any SIP PBX or provider, for sites without Asterisk."""

    server: str = Field(
        "",
        pattern=r"^[A-Za-z0-9.-]{0,253}$",
        description="SIP server to register at as an extension; empty: none",
    )
    port: Port = Field(5060, ge=1, le=65535, description="port of that server (UDP)")
    accounts: dict[Annotated[str, Field(pattern=_SIP_USER)], SoftphoneAccount] = Field(
        default_factory=dict, description="extensions to register, each with its `password`"
    )
    host: str = Field(
        "",
        pattern=r"^[0-9.]{0,15}$",
        description="our IPv4 address towards the server; empty: the one that leads there",
    )
    local_port: Port = Field(
        0, ge=0, le=65535, description="our SIP port, the next account's is the next; 0: any"
    )
    rtp_start: Port = Field(11000, ge=1024, le=65000, description="first of our ports for audio")
    rtp_end: Port = Field(11999, ge=1024, le=65535, description="last of our ports for audio")
    calls: int = Field(10, ge=1, le=200, description="calls at once; more get a busy signal")
    outside: bool = Field(
        False, description="whether flows may transfer to numbers of more than six digits"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.server and not self.accounts:
            raise ValueError("server without accounts: name an extension and its password")
        if self.rtp_end < self.rtp_start:
            raise ValueError("rtp_end is before rtp_start")
        return self


class SpeechSettings(_Section):
    engine: Literal["auto", "vosk", "whisper", "none"] = Field(
        "auto",
        description="recogniser; auto: Vosk where it has a model, else Whisper, else keys alone",
    )
    languages: tuple[str, ...] = Field(
        ("en", "zh"), description="languages to load recognisers for"
    )
    workers: int = Field(1, ge=1, le=64, description="recogniser processes for each language")
    url: str = Field(
        "",
        description="vosk-servers to use instead of workers of our own (ws://…), with commas "
        "between; `{language}` in it is en, zh …",
    )
    voice: Literal["auto", "piper", "pyttsx3"] = Field(
        "auto", description="who speaks what has no recording; auto: piper where installed"
    )
    prompt_cache_megabytes: int = Field(
        256, ge=1, description="size of the cache of spoken prompts in `state_dir`"
    )


class QueueSettings(_Section):
    ring_seconds: float = Field(20, gt=0, le=120, description="how long an agent's phone rings")
    accept_seconds: float = Field(
        30, gt=0, le=600, description="how long a chat is offered before the agent counts as away"
    )
    wrap_up_seconds: float = Field(60, ge=0, le=3600, description="time for the note after a call")
    longest_wait_seconds: float = Field(
        1800, gt=0, description="after this a waiting caller goes on to the flow's `otherwise`"
    )
    longest_line: int = Field(
        0, ge=0, description="when so many wait already, others hear the flow's `otherwise`; 0: any"
    )
    calendar: str = Field(
        "", description="calendar outside of whose hours nobody new is put in line; empty: none"
    )
    levels: tuple[tuple[float, int], ...] = Field(
        ((0, 3), (30, 2), (60, 1)),
        description="skill levels wanted: from so many seconds of waiting on, this level is enough",
    )
    reasons: tuple[str, ...] = Field(
        ("break", "lunch", "meeting", "training"), description="why agents may say they are away"
    )
    replies: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="texts that agents send often: by name, per language; {name} is a fact",
    )
    reserve_seconds: float = Field(
        60, gt=0, le=3600, description="how long a transferred customer waits for that agent alone"
    )
    answer_within_seconds: float = Field(
        20, gt=0, le=3600, description="who is answered within it counts for the service level"
    )


WebhookEvent = Literal[
    "conversation.started",
    "conversation.offered",
    "conversation.answered",
    "conversation.ended",
    "conversation.noted",
    "conversation.wrapped_up",
]
Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]


class WebhookSettings(_Section):
    """A program elsewhere that is told what becomes of conversations."""

    url: str = Field(pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$", description="where to POST to")
    secret: str = Field(min_length=16, repr=False, description="what signs the messages")
    events: tuple[WebhookEvent, ...] = Field(get_args(WebhookEvent), min_length=1)
    private: bool = False

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.url.startswith("http:") and not self.private:
            raise ValueError("http:// is for hosts of your own: use https://, or private = true")
        return self


class EmbedSettings(_Section):
    """The agent's pop in a page of another program."""

    origins: tuple[Origin, ...] = Field(
        (), description="websites that may show the pop beside theirs, like https://crm.example.com"
    )


class ChatSettings(_Section):
    """Chat on web pages and in apps."""

    enabled: bool = Field(True, description="whether customers may chat")
    origins: tuple[Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")], ...] = Field(
        (), description="websites that may show the chat, like https://www.example.com; ours may"
    )
    connections: int = Field(1000, ge=1, description="customers' pages connected at once")
    begun_at_once: int = Field(
        30, ge=1, description="conversations that one network address may begin at once"
    )
    silence_hours: float = Field(
        24,
        gt=0,
        le=8760,
        description="without a text for so long a conversation with the flow ends",
    )


class RecordingSettings(_Section):
    """Calls of flows that say `record_calls`, and the messages that callers leave."""

    enabled: bool = Field(
        False, description="whether calls are recorded where their flow says `record_calls`"
    )
    announcement: dict[str, str] = Field(
        {"en": "This call may be recorded.", "zh": "本次通话可能会被录音。"},
        description="what callers hear before a recording begins, by language",
    )
    retention_days: int = Field(
        30, ge=1, le=3650, description="after so many days recordings and messages are deleted"
    )
    quota_megabytes: int = Field(
        10240, ge=1, description="disk space for recordings; with more there are no new ones"
    )
    folder: str = Field(
        "", description="where recordings are kept; empty: `recordings` in `state_dir`"
    )

    @field_validator("announcement")
    @classmethod
    def _said(cls, texts: dict[str, str]) -> dict[str, str]:
        if not texts or not all(text.strip() for text in texts.values()):
            raise ValueError("callers must be told: every language needs a text")
        return texts


class CrmSettings(_Section):
    """What agents see of the customer's record in another system."""

    system: str = Field("", description="the system of `uses` that knows customers; empty: none")
    path: str = Field(
        "/customers/by-number/{number}",
        pattern=r"^/[\x21-\x7e]*$",
        description="what to ask it for: {number}, {contact} or a slot's name in braces",
    )
    fields: tuple[str, ...] = Field(
        (),
        max_length=20,
        description="what to show of its answer, like `tier` or `account.balance`; none: all that "
        "is plain",
    )
    seconds: float = Field(3, gt=0, le=30, description="how long its answer is waited for")


_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d-(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)", re.ASCII)
Span = tuple[time, time]


class CalendarSettings(_Section):
    """When people are there, for the flows' `hours`. A weekday that is not named is shut; several
    spans of one day stand behind commas, and 24:00 is midnight."""

    zone: str = Field("UTC", description="time zone, like Europe/London")
    weekly: dict[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], str] = Field(
        default_factory=dict,
        description='opening hours by weekday, like "08:00-12:00, 13:00-18:00"',
    )
    holidays: tuple[date, ...] = Field((), description="days that are shut, like 2026-12-25")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ValueError("no such time zone; one looks like Europe/London") from None
        return name

    @field_validator("weekly")
    @classmethod
    def _hours(cls, weekly: dict[str, str]) -> dict[str, str]:
        for day, text in weekly.items():
            if _spans(text) is None:
                raise ValueError(
                    f'{day} = {text!r} is no opening hours; they look like "08:00-18:00"'
                )
        return weekly

    def calendar(self) -> Calendar:
        """The same, as flows ask it."""
        weekly = {_WEEKDAYS.index(day): _spans(text) or () for day, text in self.weekly.items()}
        return Calendar(ZoneInfo(self.zone), weekly, frozenset(self.holidays))


def _spans(text: str) -> tuple[Span, ...] | None:
    """Opening and closing times; None where the text is none."""
    found = []
    for part in text.split(",") if text.strip() else ():
        if not _SPAN.fullmatch(part.strip()):
            return None
        opens, closes = part.strip().replace("24:00", "00:00").split("-")
        found.append((time.fromisoformat(opens), time.fromisoformat(closes)))
    return tuple(found)


class Settings(BaseSettings):
    """Everything an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="HOTLINE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    state_dir: Path = Field(Path("var"), description="database, secrets, local PBX, prompt cache")
    cache_dir: Path = Field(
        Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "hotline",
        description="large things that can be fetched again: speech models, Debian's Asterisk",
    )
    flows_dir: Path = Field(Path("flows"), description="the folder of flow files")
    sounds_dir: Path = Field(
        Path("sounds"), description="recorded prompts, a folder for each language"
    )
    flow: str = Field("main", description="the flow that answers calls")
    publish_at_start: bool = Field(
        True, description="publish the flow files at a start when they have changed"
    )
    uses: dict[str, str] = Field(
        default_factory=dict, description="base URL of each system that flows name under `uses`"
    )
    uses_private: bool | tuple[str, ...] = Field(
        False,
        description="whether those systems may be at private addresses (127.0.0.1, 10.0.0.0/8 …); "
        "or the names of those that may",
    )
    webhooks: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], WebhookSettings] = Field(
        default_factory=dict,
        description="programs that are told of conversations: `url`, `secret`, `events`, `private`",
    )
    calendars: dict[str, CalendarSettings] = Field(
        default_factory=dict, description="opening hours by the names that flows use in `hours`"
    )
    region: str = Field(
        "US", pattern="^[A-Z]{2}$", description="country of telephone numbers without one"
    )
    redial_seconds: float = Field(
        600,
        ge=0,
        le=86_400,
        description="whoever rings again so soon after a call dropped may go on with it; 0: nobody",
    )
    log: Literal["text", "json"] = Field("text", description="form of the log on standard error")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least to log"
    )
    redis_url: str = Field(
        "",
        description="Redis that carries news between several servers (redis://host:6379/0); "
        "empty: there is one server",
    )
    server_id: str = Field(
        "",
        pattern="^[A-Za-z0-9._-]{0,64}$",
        description="name of this server among several; empty: a new one at each start",
    )
    database: DatabaseSettings = DatabaseSettings()
    web: WebSettings = WebSettings()
    asterisk: AsteriskSettings = AsteriskSettings()
    softphone: SoftphoneSettings = SoftphoneSettings()
    speech: SpeechSettings = SpeechSettings()
    queue: QueueSettings = QueueSettings()
    recording: RecordingSettings = RecordingSettings()
    embed: EmbedSettings = EmbedSettings()
    chat: ChatSettings = ChatSettings()
    crm: CrmSettings = CrmSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _file())

    @model_validator(mode="after")
    def _known_crm(self) -> Self:
        if self.crm.system and self.crm.system not in self.uses:
            raise ValueError("crm.system is not one of `uses`")
        return self

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite+aiosqlite:///{self.state_dir / 'hotline.db'}"

    @property
    def recordings_dir(self) -> Path:
        return Path(self.recording.folder or self.state_dir / "recordings").expanduser()

    @property
    def facts(self) -> Facts:
        """What flows may ask about the deployment."""
        return Facts({name: kept.calendar() for name, kept in self.calendars.items()})

    @property
    def cache(self) -> Path:
        return self.cache_dir.expanduser()


def _file() -> str:
    return os.environ.get("HOTLINE_CONFIG") or "hotline.toml"


def load_settings() -> Settings:
    """Read file and environment. Raises SettingsError that names the first wrong key, or the file
    that HOTLINE_CONFIG names and that is not there."""
    if os.environ.get("HOTLINE_CONFIG") and not Path(_file()).exists():
        raise SettingsError(f"HOTLINE_CONFIG names {_file()}, and there is no such file")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        wrong = first["msg"].removeprefix("Value error, ")
        given = f" (got {first.get('input')!r})" if _may_be_shown(first["type"], key) else ""
        raise SettingsError(
            f"setting {key}: {wrong}{given}; see docs/operations.md for every setting"
        ) from None
    except ValueError as error:  # a file that is not TOML
        raise SettingsError(f"{_file()}: {error}") from None


def _may_be_shown(kind: str, key: str) -> bool:
    """Not what may be a password: of a key that nobody knows, or of one that holds one."""
    return kind != "extra_forbidden" and not any(
        word in key for word in ("secret", "url", "accounts", "webhooks")
    )
