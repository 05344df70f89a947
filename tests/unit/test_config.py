"""An operator's mistakes are named by key before a start, and every setting is documented."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ivr.config import Settings, load_settings
from ivr.errors import SettingsError

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOTLINE_CONFIG", raising=False)
    return tmp_path


def every_setting(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from every_setting(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def row(key: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    if key == "cache_dir":
        shown = "~/.cache/hotline"
    shown = "" if shown in ("", "{}") else f"`{shown}`"
    variable = "HOTLINE_" + key.upper().replace(".", "__")
    return f"| `{key}` | `{variable}` | {shown} | {field.description} |"


@pytest.mark.parametrize(("key", "field"), list(every_setting()), ids=lambda value: str(value)[:40])
def test_every_setting_is_documented_with_its_default(key: str, field: FieldInfo) -> None:
    assert row(key, field) in OPERATIONS.read_text(encoding="utf-8")


def test_defaults_serve_without_a_file() -> None:
    settings = load_settings()
    assert settings.database_url == "sqlite+aiosqlite:///var/hotline.db"
    assert settings.flow == "main"


def test_a_variable_wins_over_the_file(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "hotline.toml").write_text('flow = "night"\n[web]\nport = 1234\n')
    monkeypatch.setenv("HOTLINE_WEB__PORT", "4321")
    settings = load_settings()
    assert (settings.flow, settings.web.port) == ("night", 4321)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[web]\nport = 99999\n", "web.port"),
        ("[web]\nprot = 1\n", "web.prot"),
        ('[speech]\nengine = "siri"\n', "speech.engine"),
        ('surprise = "x"\n', "surprise"),
        ("flow = [\n", "hotline.toml"),
        ('[softphone]\nserver = "pbx.example.com"\n', "accounts"),
        ("[softphone]\nrtp_start = 12000\nrtp_end = 11000\n", "rtp_end"),
        ('[softphone]\nhost = "here"\n', "softphone.host"),
    ],
)
def test_a_wrong_setting_is_named(nowhere: Path, text: str, named: str) -> None:
    (nowhere / "hotline.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLINE_CONFIG", "elsewhere.toml")
    with pytest.raises(SettingsError, match=r"elsewhere\.toml, and there is no such file"):
        load_settings()


def test_extensions_of_another_pbx(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "hotline.toml").write_text('[softphone.accounts.100]\npassword = "p"\n')
    monkeypatch.setenv("HOTLINE_SOFTPHONE__SERVER", "pbx.example.com")
    softphone = load_settings().softphone
    assert softphone.accounts["100"].password == "p"
    assert "password" not in repr(softphone.accounts)


@pytest.mark.parametrize(
    "text",
    ['[softphone.accounts."1>;x"]\npassword = "hush"\n', '[softphone.accounts.1]\nword="hush"\n'],
)
def test_a_wrong_account_is_named_without_its_password(nowhere: Path, text: str) -> None:
    (nowhere / "hotline.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"softphone\.accounts") as caught:
        load_settings()
    assert "hush" not in str(caught.value)


# --- opening hours --------------------------------------------------------------------------------

OFFICE = """
[calendars.office]
zone = "Europe/London"
weekly = {mon = "08:00-12:00, 13:00-18:00", fri = "22:00-24:00"}
holidays = ["2026-12-28", 2026-12-29]
"""


def test_calendars_come_to_flows_with_their_zone_and_holidays(nowhere: Path) -> None:
    (nowhere / "hotline.toml").write_text(OFFICE)
    office = load_settings().facts.calendars["office"]
    expected = {
        "2026-06-01T07:30:00+00:00": "open",  # half past eight in London's summer
        "2026-06-01T11:30:00+00:00": "closed",
        "2026-06-01T12:30:00+00:00": "open",
        "2026-06-02T09:00:00+00:00": "closed",
        "2026-11-20T23:59:00+00:00": "open",
        "2026-11-21T00:00:00+00:00": "closed",
        "2026-12-28T09:00:00+00:00": "holiday",
    }
    assert {at: office.at(datetime.fromisoformat(at)) for at in expected} == expected


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ('zone = "Europe/Londres"', "calendars.office.zone"),
        ('zone = "../../etc/passwd"', "calendars.office.zone"),
        ('weekly = {mon = "8-18"}', "mon = '8-18'"),
        ('weekly = {mon = "08:00-25:00"}', "08:00-25:00"),
        ('weekly = {monday = "08:00-18:00"}', "monday"),
        ('holidays = ["2026-02-30"]', "calendars.office.holidays"),
        ("open = true", "calendars.office.open"),
    ],
)
def test_wrong_opening_hours_are_named(nowhere: Path, wrong: str, named: str) -> None:
    (nowhere / "hotline.toml").write_text(f"[calendars.office]\n{wrong}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
