"""A database of PostgreSQL 15 is dumped and restored into 17, in a root of Debian 13, and continues where it was."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from evergreen_host.cluster import Cluster, free_port
from tests.fixtures.dumps import dump
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.pipelines.sample_database import goes_on, make_lively, once_each, status, work_and_vectors
from tests.fixtures.server.template import make_template
from tests.fixtures.wal import OPTIONS, capture_of, work, work_until
from tests.packaging import image_story, imageroot
from tests.packaging.imageroot import Server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes roots, which only root may"),
]
Connection = psycopg.Connection[tuple[Any, ...]]
#: Two generations, and changes that are read from the WAL.
READ_FROM_THE_WAL = """
SELECT embed_model_add('h16', 'hash', 16);
CREATE TABLE wal (gone int, id int PRIMARY KEY, title text, body text);
ALTER TABLE wal DROP COLUMN gone;
INSERT INTO wal SELECT i, 'heading ' || i, 'of the WAL' FROM generate_series(1, 10) i;
SELECT embed_create('wal', 'wal', columns => '{title,body}', model => 'loop', capture => 'cdc');
"""


@pytest.fixture(scope="module")
def new() -> Iterator[Server]:
    """A server of PostgreSQL 17 with the extension, as Dockerfile.postgres makes it."""
    with Server(imageroot.build(), free_port()) as made:
        made.initdb()
        made.start("-c wal_level=logical")
        with image_story.connected(made.dsn) as admin:
            admin.execute("CREATE ROLE keeper")
            assert admin.info.server_version // 10000 == 17
        yield made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The server of the machine, which the newer server's pg_dump reaches at the machine's loopback."""
    with Cluster(options=OPTIONS | {"listen_addresses": "127.0.0.1"}) as made:
        hba = made.data / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
        made.restart()
        yield made


@pytest.fixture(scope="module")
def template(cluster):
    """Its database with the extension."""
    return make_template(cluster)


@pytest.fixture
def source(db, model, provider) -> Connection:
    if db.info.server_version // 10000 >= 17:
        pytest.skip("this machine's PostgreSQL is not older than 17")
    db.execute(READ_FROM_THE_WAL)
    work_until(db, "wal", "cdc")
    db.execute("SELECT embed_build('wal', model => 'h16')")
    make_lively(db, provider)  # with work for both generations, and then changes that wait
    db.execute("UPDATE wal SET body = 'edited' WHERE id = 1")
    return db


def restored(source: Connection, cluster: Cluster, new: Server, tool: str, tmp_path) -> Connection:
    """Move the database by the pg_dump of the newer server, as is recommended, or by that of the older one."""
    name = source.info.dbname
    target = f"{tool}_{name}"
    shell = f"createdb -h 127.0.0.1 -U postgres {target}"
    if tool == "newer":
        shell += f" && pg_dump -Fc -f /tmp/moved -h 127.0.0.1 -p {cluster.port} -U postgres {name}"
        shell += f" && pg_restore --exit-on-error -h 127.0.0.1 -U postgres -d {target} /tmp/moved"
    else:
        shutil.copy(dump(cluster, name, tmp_path, "plain"), new.root.path / "tmp/moved.sql")
        shell += (
            f" && psql -h 127.0.0.1 -U postgres -d {target} -X -q -o /dev/null -v ON_ERROR_STOP=1 -f /tmp/moved.sql"
        )
    done = new.shell(shell)
    assert (done.returncode, done.stdout) == (0, "")
    return psycopg.connect(new.dsn().replace("dbname=postgres", f"dbname={target}"), autocommit=True)


@pytest.mark.parametrize("tool", ["newer", "older"])
def test_it_goes_on_in_17_where_it_stood_in_15(source, cluster, new, provider, tmp_path, tool):
    with restored(source, cluster, new, tool, tmp_path) as there:
        before, after = work_and_vectors(source), work_and_vectors(there)
        for table in ("embed.wal", "embed.wal_position", "embed.wal_awaited"):  # of the slot there, which is not here
            before.pop(table, None)
            after.pop(table, None)
        assert after == before
        once_each(there)
        left = {name: figures for name, figures in status(source).items() if name != "wal"}
        assert {name: figures for name, figures in status(there).items() if name != "wal"} == left
        assert capture_of(there, "wal") == "cdc wanted, slot not there yet"
        provider.reset()
        work_until(there, "wal", "cdc")
        assert_as_source(there, "wal")
        assert {text for text in provider.sent if "heading" in text} == {"heading 1\n\nedited"}
        there.execute("UPDATE wal SET body = 'after' WHERE id = 2")
        work(there)
        assert_as_source(there, "wal")
        there.execute("SELECT embed_promote('wal')")
        nearest = there.execute("SELECT key FROM embed_search('wal', E'heading 2\n\nafter', k => 1)").fetchone()
        assert nearest == ([2],)


@pytest.mark.parametrize("tool", ["newer"])
def test_the_first_worker_in_17_carries_out_what_waited(source, cluster, new, provider, tmp_path, tool):
    """And embeds nothing again."""
    source.execute("SELECT embed_drop('wal')")
    with restored(source, cluster, new, tool, tmp_path) as there:
        goes_on(there, provider)
        once_each(there)
