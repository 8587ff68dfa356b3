"""Measured servers lie on a disk, as users' do."""

from collections.abc import Iterator

import pytest

from tests.fixtures.server.memory import on_disk


@pytest.fixture(scope="session", autouse=True)
def _disk() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    with on_disk():
        yield
