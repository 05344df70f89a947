"""What a recogniser's confidence means: the share of such readings that are right.

A logistic of what speaks for a reading, fitted by `python -m tests.bench.calibration` on speech of
which half is in the grammar and half is not; the constants below are its output. Two things speak
for a reading and carry over to voices that were left out of the fit: the evidence for it (what the
audio adds to what the phrase has anyway) and its lead over what else was possible. That a free
decoding fits better, how long the utterance is and how many phrases there are add nothing to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST_LEAD = 4.0
_NEVER_SURER = 0.995


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of a logistic."""

    evidence: float
    lead: float
    bias: float

    def confidence(self, evidence: float, lead: float) -> float:
        """From 0 to 1. `lead` is negative for a reading that is not the best."""
        lead = max(-_LONGEST_LEAD, min(_LONGEST_LEAD, lead))
        weight = self.evidence * evidence + self.lead * lead + self.bias
        return round(min(_NEVER_SURER, 1 / (1 + math.exp(-max(-30.0, min(30.0, weight))))), 3)


CHOICE: Mapping[str, Calibration] = {
    "en": Calibration(2.05, 1.88, -3.84),
    "zh": Calibration(1.19, 0.16, 1.29),
}
"""Of one of several phrases, by language; others count as Chinese: they share its model."""

SEQUENCE: Mapping[str, Calibration] = {
    "en": Calibration(1.0, 1.0, -0.5),
    "zh": Calibration(0.5, 1.0, -0.5),
}
"""Of words in a row: `evidence` is for each word of it, `lead` is over the next best value."""

DIGITS: Mapping[str, Calibration] = {
    "en": Calibration(1.27, 0.95, -2.0),
    "zh": Calibration(1.74, 1.19, -1.53),
}
"""Of strings of digits that were searched for, as `SEQUENCE`; fitted to strings of eight digits, 21
in English (one of them wrong: the weights are rough) and 38 in Mandarin."""


def of(table: Mapping[str, Calibration], language: str) -> Calibration:
    return table.get(language, table["zh"])
