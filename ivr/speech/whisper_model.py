"""One Whisper model: encoding, teacher forcing and bounded beams, and nothing of what they are for.

Whisper's encoder takes 30 s of audio; given only as much as there is it works just as well for
scoring, at a tenth of the cost (of 140 spoken digits 140 are right with 2 s of context, 139 with
30 s). Free text and sequences do need room behind the speech, or the decoder repeats itself. The
only module that imports `ctranslate2` and `faster_whisper`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import soxr
from faster_whisper.feature_extractor import FeatureExtractor
from tokenizers import Tokenizer

from ivr.ports import SAMPLE_RATE

RATE = 16_000
FRAMES = 100  # mel frames a second
WINDOW = 3000  # frames: all the context there is

_SHORTEST = 200  # frames of context; less and the last sound is lost
_TAIL = 0.3  # seconds of context behind the speech
_HUSH = 64  # frames of silence, where the text alone matters
_PITCH = 1.25  # of slowed speech one part is lowered in pitch, the rest only stretched
_BEFORE, _BEHIND = np.zeros(RATE // 10, np.float32), np.zeros(RATE // 5, np.float32)
_PEAK = 0.7
_BATCH = 24  # texts scored at once

Floats = npt.NDArray[np.float32]
Tokens = tuple[int, ...]


class Encoded:
    """Audio as the decoder hears it."""

    def __init__(self, values: Floats):
        self.values = values
        self.frames = 2 * values.shape[1]

    def view(self, copies: int = 1) -> Any:
        return ctranslate2.StorageView.from_array(np.repeat(self.values, copies, axis=0))


@dataclass(frozen=True, slots=True)
class Forced:
    """A text on an audio: the probability of each token after those before it, and by its place
    in the text when it begins, in seconds."""

    probabilities: tuple[float, ...]
    onsets: dict[int, float]

    @property
    def score(self) -> float:
        """The log-probability of the text."""
        return float(np.sum(np.log(self.probabilities)))


class WhisperModel:
    """A faster-whisper model in a folder. `language` matters to multilingual ones alone."""

    def __init__(self, path: Path, language: str, threads: int):
        self._model = ctranslate2.models.Whisper(
            str(path), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._extract = FeatureExtractor(**_extractor_settings(path))
        self._start = [self._token("<|startoftranscript|>")]
        if self._model.is_multilingual:
            self._start += [self._token(f"<|{language}|>"), self._token("<|transcribe|>")]
        self._prompt = [*self._start, self._token("<|notimestamps|>")]
        self._end = self._token("<|endoftext|>")
        self.silence = self.encode(np.zeros(RATE // 2, np.float32))
        self.hush = self._encode(self._mel(np.zeros(RATE // 10, np.float32))[:, :_HUSH])
        vocabulary = len(self.first_tokens(self.silence))  # time stamps count: beams must shun them
        self._all_but = lru_cache(maxsize=64)(
            lambda allowed: [token for token in range(vocabulary) if token not in allowed]
        )

    def _token(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ValueError(f"this Whisper model has no token {name}: it cannot be used")
        return int(token)

    def tokens(self, text: str) -> Tokens:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    def encode(self, samples: Floats, room: int = 0) -> Encoded:
        """With as much context as the speech needs, or `room` frames if that is more."""
        return self._encode(_sized(self._mel(samples), max(frames(samples), room)))

    def encode_slower(self, samples: Floats, factor: float) -> Encoded:
        """As if it had been said `factor` times as slowly."""
        lower = np.asarray(soxr.resample(samples, RATE, RATE * _PITCH), np.float32)
        size = min(frames(lower), WINDOW)
        mel = self._mel(lower)[:, :size]
        last = mel.shape[1] - 1
        at = np.arange(int(last * factor / _PITCH)) * _PITCH / factor
        left = np.minimum(at.astype(int), last - 1)
        share = at - left
        mel = mel[:, left] * (1 - share) + mel[:, left + 1] * share
        return self._encode(_sized(mel, min(WINDOW, 2 * math.ceil(mel.shape[1] / 2))))

    def _mel(self, samples: Floats) -> Floats:
        found = self._extract(np.concatenate([_BEFORE, samples, _BEHIND]), padding=True)
        return np.asarray(found, np.float32)

    def _encode(self, mel: Floats) -> Encoded:
        view = ctranslate2.StorageView.from_array(
            np.ascontiguousarray(mel[np.newaxis], dtype=np.float32)
        )
        return Encoded(np.array(self._model.encode(view, to_cpu=True)))

    def force(self, audio: Encoded, texts: Sequence[Tokens]) -> list[float]:
        """The log-probability of each text on this audio."""
        return [one.score for one in self.forced(audio, texts)]

    def forced(self, audio: Encoded, texts: Sequence[Tokens]) -> list[Forced]:
        """How each text fits this audio."""
        found: dict[int, Forced] = {}
        # Texts of like length together: the batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for first in range(0, len(order), _BATCH):
            batch = order[first : first + _BATCH]
            aligned = self._align(audio, [texts[index] for index in batch])
            for index, one in zip(batch, aligned, strict=True):
                onsets: dict[int, float] = {}
                for place, frame in one.alignments:
                    onsets.setdefault(place, 2 * frame / FRAMES)
                found[index] = Forced(tuple(np.maximum(one.text_token_probs, 1e-9)), onsets)
        return [found[index] for index in range(len(texts))]

    def _align(self, audio: Encoded, texts: Sequence[Tokens]) -> list[Any]:
        sizes = [audio.frames] * len(texts)
        return list(
            self._model.align(audio.view(len(texts)), self._start, list(map(list, texts)), sizes)
        )

    def first_tokens(self, audio: Encoded) -> npt.NDArray[np.float64]:
        """The log-probability of each token to be the first."""
        found = self._model.generate(
            audio.view(),
            [self._prompt],
            beam_size=1,
            max_length=len(self._prompt) + 1,
            suppress_blank=False,
            suppress_tokens=[],
            return_logits_vocab=True,
        )[0]
        return _log_softmax(np.array(found.logits[0])[0].astype(np.float64))

    @property
    def end(self) -> int:
        """The token that ends a text."""
        return self._end

    def beam(
        self,
        audio: Encoded,
        allowed: frozenset[int],
        room: int,
        width: int,
        length_penalty: float = 0.0,
    ) -> list[tuple[Tokens, float]]:
        """The likeliest texts of at most `room` tokens that are allowed, with ct2's score."""
        found = self._model.generate(
            audio.view(),
            [self._prompt],
            beam_size=width,
            num_hypotheses=width,
            length_penalty=length_penalty,
            # ct2 takes the lesser of half of it and what the prompt leaves of it.
            max_length=max(2 * room, room + len(self._prompt)),
            suppress_blank=False,
            suppress_tokens=self._all_but(allowed),
            return_scores=True,
        )[0]
        return [
            (tuple(tokens), float(score))
            for tokens, score in zip(found.sequences_ids, found.scores, strict=True)
        ]

    def dictate(self, audio: Encoded) -> tuple[str, float, float]:
        """Free text, its score, and how likely it is that nobody speaks."""
        found = self._model.generate(
            audio.view(),
            [self._prompt],
            beam_size=2,
            max_length=224,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        return self.text(found.sequences_ids[0]).strip(), found.scores[0], found.no_speech_prob


def frames(samples: Floats) -> int:
    """Context for this much speech: even, for the encoder halves it."""
    seconds = len(samples) / RATE + _TAIL
    return min(WINDOW, max(_SHORTEST, 2 * math.ceil(seconds * FRAMES / 2)))


def _sized(mel: Floats, size: int) -> Floats:
    """Cut to its size, or filled up with silence."""
    mel = mel[:, :size]
    missing = ((0, 0), (0, size - mel.shape[1]))
    return np.pad(mel, missing, constant_values=float(mel.min()))


def level(pcm: bytes) -> Floats:
    """Samples at Whisper's rate and one loudness: soft callers are heard as well as loud ones."""
    samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2").astype(np.float32) / 32768
    if samples.size < SAMPLE_RATE // 50:
        return np.zeros(0, np.float32)
    samples = np.asarray(soxr.resample(samples, SAMPLE_RATE, RATE), np.float32)
    peak = max(0.02, float(np.abs(samples).max()))
    return np.asarray(samples * (_PEAK / peak), np.float32)


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logits = logits - logits.max()
    return np.asarray(logits - np.log(np.exp(logits).sum()), np.float64)


def _extractor_settings(path: Path) -> dict[str, Any]:
    file = path / "preprocessor_config.json"
    if not file.exists():
        return {}
    known = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
    settings = json.loads(file.read_text(encoding="utf-8"))
    return {key: settings[key] for key in known if key in settings}
