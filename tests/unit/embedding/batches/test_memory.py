"""Uploads and results are streamed: the memory they take does not grow with their number."""

import os
import tempfile
import tracemalloc

import pytest

from evergreen.embedding.batches.protocol import BatchLine
from tests.fixtures.memory_use import private_memory
from tests.unit.embedding.batches.conftest import INTENT, ONE_FORMAT, hashed

DIMENSIONS = 1536


def through(side, count):
    """Send so many texts through a batch; return how many vectors came, and how much memory that took at most."""
    side.server.dimensions = DIMENSIONS
    with tempfile.TemporaryFile() as file:
        for n in range(count):
            file.write(side.api.line(side.model, BatchLine(hashed(f"text {n}"), f"text {n}")))
        file_id = side.api.upload(side.endpoint, side.model, INTENT, file, side.canceller)
    batch = side.create(file_id)
    side.server.finish()
    batch = side.get(batch)
    before = private_memory(os.getpid())
    most = came = 0
    for result in side.results(batch):
        assert result.vector is not None
        came += 1
        if came % 500 == 0:
            most = max(most, private_memory(os.getpid()) - before)
    return came, most


@pytest.mark.few(2)
@ONE_FORMAT
def test_the_memory_of_results_is_that_of_a_few(side):
    tracemalloc.start()
    try:
        came, _ = through(side, 1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert came == 1_000
    assert peak < 6_000_000  # the vectors alone are that much, their lines thrice


@pytest.mark.stress
def test_50_000_results_take_no_more_memory_than_a_few(side):
    came, most = through(side, 50_000)
    assert came == 50_000
    assert most < 40  # MB; the vectors alone are 300
