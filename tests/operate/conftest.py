"""Databases that are moved: dumped and restored, or cloned."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.dumps import Place, create_empty, dump, restore

Connection = psycopg.Connection[tuple[Any, ...]]
Move = Callable[..., Connection]
_numbers = count(1)


@pytest.fixture(scope="session")
def other_cluster() -> Iterator[Cluster]:
    """A second server, whose transaction ids are far behind the first one's."""
    with Cluster() as made:
        with psycopg.connect(made.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE keeper")
        yield made


@pytest.fixture
def clone(cluster, dsn) -> Iterator[Callable[[], Connection]]:
    """Clone the test's database, in which no session may be; returns a session in the clone."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    opened: list[Connection] = []
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:

        def make() -> Connection:
            admin.execute(f"CREATE DATABASE {name}_clone TEMPLATE {name}")
            opened.append(psycopg.connect(cluster.dsn(f"{name}_clone"), autocommit=True))
            return opened[-1]

        yield make
        for connection in opened:
            connection.close()
        admin.execute(f"DROP DATABASE IF EXISTS {name}_clone WITH (FORCE)")


@pytest.fixture
def move(request, cluster, dsn, tmp_path: Path) -> Iterator[Move]:
    """Move the test's database: ``move(Place('other', 'plain'))`` returns a session in the new one."""
    moved: list[tuple[Cluster, str, Connection]] = []
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]

    def to(place: Place, *options: str) -> Connection:
        target = cluster if place.cluster == "same" else request.getfixturevalue("other_cluster")
        new = f"moved_{next(_numbers)}"
        file = dump(cluster, name, tmp_path, place.means)
        create_empty(target, new)
        restore(target, new, file, place.means, *options)
        moved.append((target, new, psycopg.connect(target.dsn(new), autocommit=True)))
        return moved[-1][2]

    yield to
    for target, new, connection in moved:
        connection.close()
        with psycopg.connect(target.dsn(), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {new} WITH (FORCE)")
