"""Broken audio and broken commands cost at most their own call (see `tests.mutations`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from tests import mutations


@pytest.mark.parametrize("make", [mutations.Audio, mutations.Commands])
async def test_broken_data_costs_its_own_call_alone(
    make: Callable[[], mutations.Audio | mutations.Commands],
) -> None:
    with capture_logs() as logged:
        tally = await mutations.run(make, 5000)
    assert tally.parts >= 5000
    assert 0 < tally.dropped < tally.calls
    # Each says who and why, in one line; none is a fault of ours.
    assert {entry["event"] for entry in logged if entry["log_level"] == "error"} <= {
        "agi connection dropped",
        "call lost",
        "audio connection refused",
    }
