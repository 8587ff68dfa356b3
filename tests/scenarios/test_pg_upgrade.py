"""pg_upgrade into a new cluster: pipelines, vectors, indexes and pending work are kept, nothing is re-embedded.

Slots do not come along: what a CDC pipeline missed is found by a check of every row, which costs no call.
"""

import os
import subprocess

import psycopg

from evergreen_host.cluster import Cluster
from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.freshness import all_fresh, verify

OPTIONS = {"shared_preload_libraries": "", "wal_level": "logical"}
SOURCES = """
CREATE TABLE docs (gone int, id int PRIMARY KEY, body text);
ALTER TABLE docs DROP COLUMN gone;
INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 20) i;
CREATE TABLE wal (id int PRIMARY KEY, body text);
INSERT INTO wal SELECT i, 'wal ' || i FROM generate_series(1, 20) i;
"""
WORK = "CALL embed_work(until_empty => true)"


def upgrade(old, new, *options):
    clusters = ("-b", old.bin(""), "-B", new.bin(""), "-d", old.data, "-D", new.data)
    ports = ("-U", "postgres", "-p", str(old.port), "-P", str(new.port), "-s", new.root)
    user = {"user": old.os_user, "group": old.os_user, "extra_groups": []} if old.os_user else {}
    command, env = [old.bin("pg_upgrade"), *clusters, *ports, *options], {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=new.root, env=env, capture_output=True, text=True, check=False, **user)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def prepare(cluster, provider):
    """Two pipelines with indexes, all fresh, and three changes that wait."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION evergreen CASCADE")
        provider.register(db)
        db.execute(SOURCES)
        db.execute("SELECT embed_setting('index_from', '10')")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
        db.execute("SELECT embed_create('wal', 'wal', columns => '{body}', model => 'loop', capture => 'cdc')")
        db.execute(WORK)
        db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; DELETE FROM docs WHERE id = 2")
        db.execute("UPDATE wal SET body = 'wal edited' WHERE id = 1")


def test_work_goes_on_in_the_new_cluster(provider):
    with Cluster(options=OPTIONS) as old:
        new = Cluster(options=OPTIONS)
        try:
            prepare(old, provider)
            provider.reset()
            new.create()
            old.stop()
            upgrade(old, new, "--check")
            upgrade(old, new)
            new.start()
            with psycopg.connect(new.dsn(), autocommit=True) as db:
                db.execute(WORK)
                assert (verify(db, "docs"), verify(db, "wal")) == (all_fresh(19), all_fresh(20))
                assert provider.sent == {"edited": 1, "wal edited": 1}
                assert db.execute("SELECT bool_and(indexed) FROM embed_generations").fetchone() == (True,)
                db.execute(
                    "UPDATE docs SET body = 'after' WHERE id = 3; UPDATE wal SET body = 'wal after' WHERE id = 3"
                )
                db.execute(WORK)
                assert (verify(db, "docs"), verify(db, "wal")) == (all_fresh(19), all_fresh(20))
                assert {text: provider.sent[text] for text in ("after", "wal after")} == {"after": 1, "wal after": 1}
            assert Doctor(new.dsn()).findings() == []
        finally:
            new.remove()
