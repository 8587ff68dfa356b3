"""Writes the reference pages: `python -m tools.reference`; with --check it only says which are out of date."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from evergreen_host.cluster import Cluster
from tools.paths import DOCS
from tools.reference import pages


@contextmanager
def database() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Return a session in a temporary cluster that has the extension and a fresh pipeline named docs."""
    with Cluster() as cluster:
        place = {"host": str(cluster.root), "port": cluster.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**place, autocommit=True) as session:
            session.execute(pages.PREPARE)
            yield session


def main() -> int:
    """Write or check the pages; returns 1 if --check finds one out of date."""
    with database() as session:
        made = pages.render(session)
    stale = [name for name, text in made.items() if pages.committed(name) != text]
    for name in stale:
        if "--check" in sys.argv:
            print(f"docs/reference/{name} is out of date: run make reference")
        else:
            (DOCS / "reference" / name).write_text(made[name], "utf-8")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
