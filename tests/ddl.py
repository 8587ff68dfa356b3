"""What owners do to a live source: DDL that a pipeline follows, and DDL after which it stops."""

from collections.abc import Mapping
from typing import Any

import pytest
from freshness import assert_fresh

# Each is done on what the ones before it in its row left behind.
FOLLOWED = {
    "columns": [
        "ALTER TABLE docs ALTER body TYPE varchar(200)",
        "ALTER TABLE docs ALTER n TYPE bigint",
        "ALTER TABLE docs DROP first",
        "ALTER TABLE docs DROP n",
        "ALTER TABLE docs ADD extra text DEFAULT 'x' || clock_timestamp()",
        "ALTER TABLE docs ADD old text, ADD new text, ADD tg_op text",
        "ALTER TABLE docs ALTER body TYPE json USING body::json",
    ],
    "names": [
        "ALTER TABLE docs RENAME body TO content",
        "ALTER TABLE docs RENAME id TO nr",
        "ALTER TABLE docs RENAME live TO visible",
        "ALTER TABLE docs RENAME content TO x; ALTER TABLE docs RENAME note TO content",
        "ALTER TABLE docs RENAME x TO note",
        "ALTER TABLE docs RENAME nr TO key; ALTER TABLE docs RENAME note TO locked",
    ],
    "homes": [
        "ALTER TABLE docs RENAME TO papers",
        "CREATE TABLE docs (id int PRIMARY KEY, body text, note text)",
        "ALTER SCHEMA app RENAME TO application",
        "ALTER TABLE application.papers SET SCHEMA public",
        "ALTER TABLE public.papers OWNER TO new_owner",
    ],
    "the rest": [
        "ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (id)",
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON docs USING (id < 0)",
        "ALTER TABLE docs REPLICA IDENTITY FULL; ALTER TABLE docs CLUSTER ON docs_pkey; CLUSTER docs",
        "ALTER TABLE docs SET UNLOGGED; ALTER TABLE docs SET LOGGED; VACUUM FULL docs",
        "ALTER TABLE docs DISABLE TRIGGER ALL; ALTER TABLE docs ENABLE TRIGGER ALL",
        "ALTER TABLE docs DISABLE TRIGGER ALL",
        "CREATE TABLE family (id int NOT NULL, body text); ALTER TABLE docs INHERIT family",
        "CREATE TABLE child () INHERITS (docs); INSERT INTO child (id, note, body) VALUES (1, 'not', 'ours')",
    ],
}

BROKEN = {
    "drop of the watched column": ("ALTER TABLE docs DROP body", "UPDATE docs SET note = 'x', n = 2"),
    "drop of only_if": ("ALTER TABLE docs DROP live", "UPDATE docs SET body = 'x', n = 2"),
    "another type of only_if": (
        "ALTER TABLE docs ALTER live DROP DEFAULT, ALTER live TYPE int USING live::int",
        "UPDATE docs SET body = 'x', live = 0",
    ),
    "another type of the key": (
        "ALTER TABLE docs ALTER id TYPE bigint",
        "UPDATE docs SET body = 'x', id = id + 5000000000",
    ),
    "drop of the key's column": ("ALTER TABLE docs DROP id", "UPDATE docs SET body = 'x', n = 2"),
    "drop of the primary key": ("ALTER TABLE docs DROP CONSTRAINT docs_pkey", "UPDATE docs SET body = 'x', id = 1"),
    "another primary key": (
        "ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD PRIMARY KEY (note, id)",
        "UPDATE docs SET body = 'x', note = 'y'",
    ),
    "drop of the table": ("DROP TABLE docs", "CREATE TABLE docs (id int PRIMARY KEY, body text)"),
    "drop of the schema": ("DROP SCHEMA app CASCADE", "CREATE SCHEMA app"),
}


def cases(all_of_them: Mapping[str, Any], *by_default: str) -> list[Any]:
    """Parameters with ids: the named ones run by default, all of them by ``make attack``."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=[] if name in by_default else [pytest.mark.attack],
        )
        for name, case in all_of_them.items()
    ]


def assert_others_go_on(db):
    db.execute("INSERT INTO other VALUES (1, 'other')")
    assert_fresh(db, "other", 1)


def names_now(db):
    """How the columns that the tests write are called now, by the pipeline's own account."""
    source, key, columns = db.execute(
        "SELECT source::text, key_columns, columns FROM embed_pipelines WHERE pipeline = 'docs'"
    ).fetchone()
    return source, key[0], columns[0]
