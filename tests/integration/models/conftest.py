"""A pipeline whose model can turn into another one, and is looked at several times a second."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.providers.turning import TurningProvider


@pytest.fixture
def turning() -> Iterator[TurningProvider]:
    """The provider."""
    with TurningProvider() as made:
        yield made


@pytest.fixture
def watched(db: psycopg.Connection, docs: str, turning: TurningProvider) -> TurningProvider:
    """Pipeline ``docs`` by that model, under the name ``loop``: ten rows, embedded by the old model."""
    turning.register(db, watch="50 ms")
    db.execute(f"SELECT embed_create('docs', '{docs}', columns => '{{title,body}}', model => 'loop')")
    db.execute("CALL embed_work(until_empty => true)")
    return turning
