"""The extension's owner is renamed, or is a superuser no more, or hands over what it owns.

The kind: rights that were there when the extension was created and that its DEFINER functions still need. Without them
nothing works half: each call that needs them says whose rights are missing and what to type, and so does doctor.
"""

import psycopg
import pytest
from psycopg import errors

from evergreen_host.cluster import Cluster
from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.freshness import assert_fresh

pytestmark = pytest.mark.slow

CALLS = ("SELECT embed_drain()", "CALL embed_work(until_empty => true)", "SELECT * FROM embed_status",
         "SELECT embed_create('more', 'docs', columns => '{body}')", "SELECT * FROM embed_verify('docs')")  # fmt: skip


@pytest.fixture(scope="module")
def own():
    """A server whose extension belongs to ``boss``."""
    with Cluster(options={"shared_preload_libraries": ""}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE boss SUPERUSER LOGIN")
        with psycopg.connect(made.dsn(user="boss"), autocommit=True) as boss:
            boss.execute("CREATE EXTENSION evergreen CASCADE")
        yield made


def test_renamed_demoted_and_replaced(own, provider):
    with psycopg.connect(own.dsn(), autocommit=True) as db:
        provider.register(db)
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        db.execute("INSERT INTO docs SELECT i, 'body ' || i FROM generate_series(1, 10) i")
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
        db.execute('ALTER ROLE boss RENAME TO "The Boss"')
        assert_fresh(db, "docs", 10)
        db.execute('ALTER ROLE "The Boss" NOSUPERUSER')
        db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
        for call in CALLS:
            with pytest.raises(errors.InsufficientPrivilege, match='role "The Boss" owns extension evergreen') as found:
                db.execute(call)
            assert found.value.diag.message_hint.startswith('ALTER ROLE "The Boss" SUPERUSER; '), call
        doctor = Doctor(own.dsn())
        assert 'ALTER ROLE "The Boss" SUPERUSER;' in [one["advice"] for one in doctor.findings()]
        db.execute('REASSIGN OWNED BY "The Boss" TO postgres')
        db.execute("CALL embed_work(until_empty => true)")
        assert_fresh(db, "docs", 10)
        assert doctor.findings() == []
        assert provider.sent["edited"] == 1
