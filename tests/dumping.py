"""Dump databases and restore them, in this cluster or another, where every OID is a different one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg

from evergreen_host.cluster import Cluster

Format = Literal["plain", "custom"]
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Place:
    """Where a database is moved to, and by which means."""

    cluster: str
    means: Format


_SHIFT = """\
DO $$ BEGIN
    FOR i IN 1..150 LOOP
        EXECUTE format('CREATE TYPE shift_%s AS ENUM (''a'')', i);
        EXECUTE format('CREATE TABLE shifted_%s (a int PRIMARY KEY, b shift_%s)', i, i);
        EXECUTE format('DROP TABLE shifted_%s; DROP TYPE shift_%s', i, i);
    END LOOP;
END $$
"""


def _program(cluster: Cluster, program: str, *args: str | Path) -> tuple[str, str]:
    command = [cluster.bin(program), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{program}: {done.stderr}"
    return done.stdout, done.stderr


def dump(cluster: Cluster, dbname: str, path: Path, form: Format, *options: str) -> Path:
    """Dump a database into a file; pg_dump must have nothing to say."""
    target = path / f"{dbname}.{form}"
    _, said = _program(cluster, "pg_dump", "--format", form, "--file", target, *options, "-d", cluster.dsn(dbname))
    assert said == ""
    return target


def dump_as(role: str, cluster: Cluster, dbname: str, path: Path, *options: str) -> Path:
    """Dump a database as a role; raises CalledProcessError where pg_dump fails."""
    target = path / f"{dbname}.by_{role}"
    command = [cluster.bin("pg_dump"), "--format", "custom", "--file", target, *options, "-d"]
    dsn = psycopg.conninfo.make_conninfo(cluster.dsn(dbname), user=role)
    subprocess.run([*command, dsn], capture_output=True, check=True)
    return target


def create_empty(cluster: Cluster, dbname: str) -> None:
    """Create a database whose objects will have other OIDs than those of any other."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {dbname}")
    with psycopg.connect(cluster.dsn(dbname), autocommit=True) as db:
        db.execute(_SHIFT)


def restore(cluster: Cluster, dbname: str, dumped: Path, form: Format, *options: str) -> None:
    """Restore a file into an empty database; the first error ends it, and a warning is one too."""
    if form == "custom":
        _, said = _program(cluster, "pg_restore", "--exit-on-error", *options, "-d", cluster.dsn(dbname), dumped)
    else:
        quiet = ("--no-psqlrc", "--quiet", "--output", "/dev/null", "-v", "ON_ERROR_STOP=1")
        _, said = _program(cluster, "psql", *quiet, *options, "-d", cluster.dsn(dbname), "-f", dumped)
    assert said == ""


def contents(db: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return every row of evergreen's catalog, queue and store as text; relations print by name."""
    tables = db.execute(
        "SELECT c.oid::regclass::text FROM pg_class c"
        " WHERE c.relnamespace IN ('embed'::regnamespace, 'embed_store'::regnamespace) AND c.relkind = 'r' ORDER BY 1"
    ).fetchall()
    return {
        table: [row for (row,) in db.execute(f"SELECT t::text FROM {table} t ORDER BY t::text")] for (table,) in tables
    }


def verified(db: Connection, pipeline: str) -> dict[str, int]:
    """Count rows by what embed_verify says of them."""
    return {state: rows for state, rows in db.execute("SELECT * FROM embed_verify(%s)", (pipeline,)) if rows}


def drain(db: Connection) -> None:
    """Drain until nothing is left."""
    while db.execute("SELECT embed_drain()").fetchone() != (0,):
        pass
