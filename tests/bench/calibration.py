"""Fits the constants of `ivr.speech.calibration` to the development data.

    python -m tests.bench.calibration en

Each utterance counts twice: among phrases of which one is what was said, and among the same less
that one. Noise counts as what is never said. Prints the weights, and how well those fitted on all
other speakers do on each speaker: confidence must carry over to voices that were never heard.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ivr.speech.vad import trim
from tests.bench import corpus
from tests.bench.corpus import DIGITS, Clip
from tests.bench.recognition import ACCEPT, AMONG, PHRASES, REJECT, engine

Floats = npt.NDArray[np.float64]
_LONGEST_LEAD = 4.0
_STEPS = 60


def examples(language: str) -> list[tuple[str, bool, float, float, bool]]:
    """Who spoke, whether it was among the phrases, the evidence, the lead, whether it is right."""
    found = []
    for clip, options in _utterances(language):
        evidence = engine(language).evidence(trim(clip.pcm), tuple(options))
        for listed in dict.fromkeys((tuple(options), tuple(o for o in options if o != clip.text))):
            ranked = sorted(listed, key=lambda text: -evidence[text])
            lead = evidence[ranked[0]] - evidence[ranked[1]]
            right = ranked[0] == clip.text
            inside = clip.text in listed
            lead = min(_LONGEST_LEAD, lead)
            found.append((clip.who, inside, evidence[ranked[0]], lead, right))
    return found


def _utterances(language: str) -> list[tuple[Clip, Sequence[str]]]:
    chance = random.Random(21)

    def options(clip: Clip, texts: Sequence[str]) -> list[str]:
        return [clip.text, *chance.sample([one for one in texts if one != clip.text], AMONG - 1)]

    if language == "zh":
        clips = corpus.mandarin_phrases()
        texts = [clip.text for clip in clips]
        return [(clip, options(clip, texts)) for clip in clips for _ in range(2)]
    return [
        *((clip, DIGITS) for clip in corpus.spoken_digits()[::2]),
        *((clip, DIGITS) for clip in corpus.spoken(DIGITS * 2, 22)),
        *((clip, options(clip, PHRASES)) for clip in corpus.spoken(PHRASES, 23)),
        *((clip, DIGITS) for clip in corpus.noises(20, 24)),
    ]


def fit(inputs: Floats, right: Floats, weights: Floats) -> Floats:
    """A logistic by Newton's method."""
    found = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        share = 1 / (1 + np.exp(-inputs @ found))
        slope = inputs.T @ (weights * (share - right)) + 0.05 * found
        curve = (inputs.T * (weights * share * (1 - share))) @ inputs + 0.05 * np.eye(len(found))
        found -= np.linalg.solve(curve, slope)
    return found


def main(language: str) -> None:
    rows = examples(language)
    who = np.array([row[0] for row in rows])
    inside = np.array([row[1] for row in rows])
    inputs = np.array([[row[2], row[3], 1.0] for row in rows])
    right = np.array([row[4] for row in rows], float)
    weights = np.where(inside, 0.5 / inside.mean(), 0.5 / (~inside).mean())
    print(f"{language}: evidence, lead, bias =", fit(inputs, right, weights).round(2))
    for left_out in sorted(set(who)):
        tried = who == left_out
        if tried.all():
            continue
        found = fit(inputs[~tried], right[~tried], weights[~tried])
        sure = 1 / (1 + np.exp(-inputs[tried] @ found))
        taken, refused = sure[right[tried] == 1], sure[~inside[tried]]
        print(
            f"  {left_out}: right {len(taken)}, taken {np.mean(taken >= ACCEPT):.0%}, "
            f"refused {np.mean(taken < REJECT):.0%}; outside {len(refused)}, "
            f"taken {np.mean(refused >= ACCEPT):.0%}, refused {np.mean(refused < REJECT):.0%}"
        )


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["en"]))
