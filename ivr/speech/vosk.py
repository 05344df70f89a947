"""Vosk: light, streaming, and bound to a grammar by itself. The only module that imports `vosk`.

Its faults are kept from the rest: `Model(lang=…)` exits the process and downloads in silence, so a
path is given; words that a model does not know are dropped from a grammar without a word, so they
are asked for first; and a grammar needs a model with `Gr.fst` and `HCLr.fst`. Where a model has no
`[unk]` (the Korean one), whatever is said becomes one of the phrases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import vosk

from ivr.errors import SpeechError
from ivr.flow.events import Grammar
from ivr.ports import SAMPLE_RATE
from ivr.speech.engines import Reading

_UNKNOWN = "[unk]"


class VoskEngine:
    """A Vosk model in a folder."""

    reads_ahead = False

    def __init__(self, path: Path, language: str):
        # Checked here, because what Kaldi misses it reports by ending the process.
        for part in ("am/final.mdl", "graph/Gr.fst", "graph/HCLr.fst"):
            if not (path / part).exists():
                raise SpeechError(f"{path}: no Vosk model that takes grammars: it has no {part}")
        vosk.SetLogLevel(-1)
        self._model = vosk.Model(str(path))
        self._language = language
        self._known = lru_cache(maxsize=10_000)(self._model.vosk_model_find_word)

    def knows(self, word: str) -> bool:
        """Whether the model has a pronunciation of this word."""
        return bool(self._known(word) >= 0)

    def prepare(self, grammar: Grammar) -> None:
        """Nothing: Vosk builds its graph when an utterance begins, in milliseconds."""

    def utterance(self, grammar: Grammar) -> VoskUtterance:
        phrases = sorted({*self._known_only((*grammar.phrases, *grammar.words))})
        if not phrases and (grammar.phrases or grammar.words):
            return VoskUtterance(None, self._language)
        unknown = [_UNKNOWN] if self.knows(_UNKNOWN) else []
        allowed = [json.dumps([*phrases, *unknown], ensure_ascii=False)] if phrases else []

        def make() -> Any:
            made = vosk.KaldiRecognizer(self._model, SAMPLE_RATE, *allowed)
            made.SetWords(True)
            return made

        return VoskUtterance(make, self._language)

    def _known_only(self, phrases: Iterable[str]) -> Iterable[str]:
        for phrase in phrases:
            words = phrase.split()
            if self._language == "zh":
                # The vocabulary is of words, and where one ends is not written: whole, or by signs.
                words = [phrase] if self.knows(phrase) else list("".join(words))
            if words and all(map(self.knows, words)):
                yield " ".join(words)


class VoskUtterance:
    """One recogniser, which `make` gives; `None` where the model knows nothing of what may be said.

    A reading ends what a recogniser has heard. Should more be said, another one hears it all."""

    def __init__(self, make: Callable[[], Any] | None, language: str):
        self._make = make
        self._recognizer: Any = make() if make is not None else None
        self._pcm = bytearray()
        self._read = False
        self._joint = "" if language == "zh" else " "
        self._words: list[tuple[str, float]] = []

    def accept(self, pcm: bytes) -> str:
        if self._make is None:
            return ""
        self._pcm += pcm
        if self._read:
            self._recognizer, self._words, self._read = self._make(), [], False
            pcm = bytes(self._pcm)
        if self._recognizer.AcceptWaveform(pcm):
            self._keep(self._recognizer.Result())
            return self._text([])
        return self._text(json.loads(self._recognizer.PartialResult()).get("partial", "").split())

    def read(self) -> Reading:
        if self._make is None:
            return Reading("", 0.0)
        if not self._read:
            self._keep(self._recognizer.FinalResult())
            self._read = True
        text = self._text([])
        if not text:
            return Reading("", 0.0)
        # What was not understood is evidence against what was.
        sure = [0.0 if word == _UNKNOWN else confidence for word, confidence in self._words]
        return Reading(text, round(sum(sure) / len(sure), 3))

    def _keep(self, result: str) -> None:
        for one in json.loads(result).get("result", ()):
            self._words.append((str(one["word"]), float(one["conf"])))

    def _text(self, further: list[str]) -> str:
        words = [*(word for word, _ in self._words), *further]
        return self._joint.join(word for word in words if word != _UNKNOWN)
