"""What holds in any container or root made by Dockerfile.postgres."""

from collections.abc import Callable
from typing import Any

import psycopg

from tests.fixtures.waiting import wait_until

Connection = psycopg.Connection[tuple[Any, ...]]

TOOLS = "gcc g++ cc clang make git curl pip pip3 python3 pg_config.libpq-dev"
#: Prints what must not be there: tools, headers, package lists, what the builder worked with. What the official image
#: itself has is left out: postgresql-common brings postgresql-common-dev along.
LEFTOVERS = f"""
for tool in {TOOLS}; do command -v $tool; done
dpkg-query --show --showformat '${{Package}}\\n' | grep -E -e '-dev$' -e '-dev-' | grep -v '^postgresql-common-dev$'
find /var/lib/apt/lists /opt /src -type f 2> /dev/null
true
"""
_UNREAD = "find /usr/lib/postgresql/*/lib/evergreen /usr/share/postgresql/*/extension/evergreen* ! -perm -o+r"
UNREADABLE = f"{_UNREAD}; find /usr/lib/postgresql/*/lib/evergreen -type d ! -perm -o+x"
_WAKES_WITHIN = 150  # seconds: pg_cron starts workers at full minutes


def connected(dsn: Callable[[], str], timeout: float = 120) -> Connection:
    """Wait until the server answers and return a session."""

    def attempt() -> Connection | None:
        try:
            return psycopg.connect(dsn(), autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            return None

    return wait_until(attempt, timeout, "the server's answer")


def _one(db: Connection, query: str) -> Any:
    row = db.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def creates_nothing_unasked(db: Connection) -> None:
    """A new cluster has what the official image's has: no extension, role, schema or job of ours."""
    assert _one(db, "SELECT array_agg(extname::text) FROM pg_extension") == ["plpgsql"]
    assert _one(db, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'embed%'") == 0
    assert _one(db, "SELECT count(*) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'") == 0
    assert _one(db, "SHOW shared_preload_libraries") == "pg_cron"
    assert _one(db, "SHOW cron.database_name") == "postgres"


def answers_a_question(db: Connection) -> None:
    """The README's first steps: extension, pipeline, drain, search by the built-in model."""
    db.execute("CREATE EXTENSION evergreen CASCADE")
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    db.execute("""INSERT INTO docs VALUES (1, 'Passwords', 'To reset your password open the settings.'),
        (2, 'Invoices', 'Invoices are sent on the first day of each month.')""")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}')")
    assert _one(db, "SELECT embed_drain()") == 2
    assert _one(db, "SELECT key FROM embed_search('docs', 'how do I log in again?', k => 1)") == [1]


def stays_fresh_unattended(db: Connection) -> None:
    """From embed_schedule() on, pg_cron's workers embed what is written."""
    db.execute("CREATE EXTENSION pg_cron")
    db.execute("SELECT embed_schedule()")
    is_embedded_by_itself(db, 3)


def is_embedded_by_itself(db: Connection, key: int) -> None:
    """A new row gets its vector without a call to a worker."""
    db.execute("INSERT INTO docs VALUES (%s, 'Printers', 'Paper is in the cupboard.')", (key,))
    embedded = f"SELECT count(*) FROM docs_embedding WHERE id = {key} AND NOT is_stale"
    wait_until(lambda: _one(db, embedded) == 1, _WAKES_WITHIN, "a vector made by pg_cron's worker")
