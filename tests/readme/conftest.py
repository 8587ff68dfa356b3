"""A server whose WAL can be decoded, as the page on that asks for, and databases as a page's reader has them."""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from pages import README, blocks
from template import make_template

from evergreen_host.cluster import Cluster

_numbers = count(1)


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """One server for all pages."""
    with Cluster(options={"wal_level": "logical", "wal_writer_delay": "10ms"}) as made:
        make_template(made)
        yield made


@pytest.fixture
def environment(cluster: Cluster) -> Callable[..., dict[str, str]]:
    """Make a database, and return the environment in which psql and evergreen find it, and everything on PATH."""

    def make(template: str = "template1") -> dict[str, str]:
        name = f"page_{next(_numbers)}"
        with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        path = os.pathsep.join([str(Path(sys.executable).parent), str(cluster.postgres.bindir), os.environ["PATH"]])
        place = {"PGHOST": str(cluster.root), "PGPORT": str(cluster.port), "PGUSER": "postgres", "PGDATABASE": name}
        return {**os.environ, **place, "PATH": path}

    return make


@pytest.fixture
def five_minutes() -> str:
    """What a reader has typed before any other page: the README's tutorial."""
    return "\n".join(block.code for block in blocks(README, "sql") if block.section == "Five minutes")
