"""The prompts that a person recorded, by the text that they say.

`sounds/<language>/manifest.yaml` names them:

    "Welcome to Acme Water.": welcome.wav

The text is a prompt's as it stands in the flow, holes included; one with its holes filled; or one
of its sentences. The file is uncompressed WAV of any rate and width, in the same folder or below.
Every recording is brought to the loudness of the voices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ivr.errors import FlowError, SettingsError, WireError
from ivr.flow import yamltree
from ivr.flow.yamltree import Branch
from ivr.ports import SAMPLE_RATE
from ivr.speech import loudness
from ivr.wire.audio import pcm_from_floats, read_wav

_LARGEST_RECORDING = 32 << 20
_LARGEST_ALL = 256 << 20  # bytes of PCM, for they are kept in memory: over four hours
_SOFTEST = -60.0  # LUFS; a microphone that was off


def key(text: str) -> str:
    """A prompt's text however its spaces and lines are written."""
    return " ".join(text.split())


def load(sounds: Path) -> dict[str, dict[str, bytes]]:
    """PCM by language and `key`. Raises SettingsError that names the file, the line, and what is
    wrong there."""
    found: dict[str, dict[str, bytes]] = {}
    left = _LARGEST_ALL
    for manifest in sorted(sounds.glob("*/manifest.yaml")):
        recordings = found[manifest.parent.name] = _manifest(manifest)
        left -= sum(map(len, recordings.values()))
        if left < 0:
            raise SettingsError(
                f"{manifest}: more than {_LARGEST_ALL >> 20} MiB of recordings in all"
            )
    return found


def _manifest(manifest: Path) -> dict[str, bytes]:
    try:
        if manifest.stat().st_size > yamltree.SIZE_LIMIT:
            raise SettingsError(f"{manifest}: larger than {yamltree.SIZE_LIMIT >> 20} MiB")
        text = manifest.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{manifest}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{manifest}: not UTF-8") from None
    if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
        return {}
    try:
        tree = yamltree.read(text, str(manifest))
    except FlowError as error:
        raise SettingsError(f"{manifest}:{error.line or 1}: {error.message}") from None
    if not isinstance(tree.value, dict):
        raise SettingsError(f"{manifest}:{tree.line}: must be a table of text: file.wav")
    recordings: dict[str, bytes] = {}
    for said, branch in tree.value.items():
        where = f"{manifest}:{tree.keys[said][0]}"
        if not key(said):
            raise SettingsError(f"{where}: the text is empty")
        if key(said) in recordings:
            raise SettingsError(f"{where}: {said[:60]!r} is here twice")
        recordings[key(said)] = _recording(manifest.parent, where, branch)
    return recordings


def _recording(folder: Path, where: str, named: Branch) -> bytes:
    name = named.value
    if not isinstance(name, str) or not name.lower().endswith(".wav") or not name.isprintable():
        shown = named.text[:60] if not isinstance(name, dict | list) else "a list or table"
        raise SettingsError(f"{where}: {shown!r} is not the name of a .wav file")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise SettingsError(f"{where}: {name} is outside {folder}")
    try:
        if file.stat().st_size > _LARGEST_RECORDING:
            raise SettingsError(f"{where}: {name} is larger than {_LARGEST_RECORDING >> 20} MiB")
        pcm = read_wav(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{where}: {name}: {error.strerror}") from None
    except WireError as error:
        raise SettingsError(f"{where}: {name}: {error}") from None
    samples = (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)
    if loudness.loudness(samples) < _SOFTEST:
        raise SettingsError(f"{where}: {name} has no sound in it")
    return pcm_from_floats(loudness.level(samples), SAMPLE_RATE)
