"""pg_restore and psql load data into a live source, with triggers disabled and without."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.fixtures.dumps import dump, restore
from tests.fixtures.pipelines.freshness import assert_fresh, drain, texts_in_view

pytestmark = pytest.mark.slow


@pytest.mark.few(1)
@pytest.mark.parametrize("form", ["custom", "plain"])
def test_data_restored_with_triggers_disabled_is_captured(
    db, cluster, dsn, connect, docs, model, tmp_path, form, provider
):
    """DISABLE TRIGGER ALL, COPY, ENABLE TRIGGER ALL, which would leave ours on for ordinary sessions only."""
    db.execute("CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100)")
    db.execute("INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 5) i")
    options = ("--data-only", "--disable-triggers", "--table", "docs", "--table", "low")
    name = conninfo_to_dict(dsn)["dbname"]
    file = dump(cluster, name, tmp_path, form, *(options if form == "plain" else options[:1] + options[2:]))
    for pipeline in ("docs", "parts"):
        db.execute(f"SELECT embed_create('{pipeline}', '{pipeline}', columns => '{{body}}', model => 'loop')")
    drain(db)
    session = connect()
    session.execute("UPDATE docs SET n = 1; UPDATE parts SET id = id")
    db.execute("TRUNCATE docs, parts")
    assert_fresh(db, "docs", 0)
    provider.reset()
    restore(cluster, name, file, form, *(("--data-only", "--disable-triggers") if form == "custom" else ()))
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "parts", 5)
    assert not provider.sent
    states = db.execute("SELECT DISTINCT tgenabled::text FROM pg_trigger WHERE tgname LIKE 'evergreen%'").fetchall()
    assert states == [("A",)]
    session.execute("UPDATE docs SET body = 'edited' WHERE id = 1; UPDATE parts SET body = 'edited' WHERE id = 1")
    assert_fresh(db, "docs", 10)
    assert "edited" in texts_in_view(db, "docs_embedding")
    assert_fresh(db, "parts", 5)
