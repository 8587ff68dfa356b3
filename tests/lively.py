"""A database with pipelines of all sorts and work that waits; what must hold when it has been moved."""

from typing import Any

import psycopg
from dumping import contents, drain, verified
from provider import LoopbackProvider

Connection = psycopg.Connection[tuple[Any, ...]]

# Dropped columns leave gaps in the numbers of the others, which a restore closes: title 4 becomes 2, body 6 becomes 4.
SOURCES = """
DO $$ BEGIN IF to_regrole('keeper') IS NULL THEN CREATE ROLE keeper; END IF; END $$;
GRANT CREATE ON SCHEMA public TO keeper;
CREATE TABLE docs (junk1 text, junk2 int, id int PRIMARY KEY, title text, unwatched text, body text, n int DEFAULT 0);
ALTER TABLE docs DROP COLUMN junk1, DROP COLUMN junk2;
ALTER TABLE docs OWNER TO keeper;
INSERT INTO docs (id, title, unwatched, body) SELECT i, 'title ' || i, 'u', 'body ' || i FROM generate_series(1, 10) i;

CREATE SCHEMA "My Schema";
CREATE TYPE "My Schema"."Mood" AS ENUM ('good', 'bad');
CREATE DOMAIN "My Schema"."Number" AS int CHECK (VALUE > 0);
CREATE TABLE "My Schema"."Odd ""Docs"" é" (
    gone int, "Mood" "My Schema"."Mood", alive boolean, gone2 int, "Text of it" text, key "My Schema"."Number",
    PRIMARY KEY ("Mood", key));
ALTER TABLE "My Schema"."Odd ""Docs"" é" DROP COLUMN gone, DROP COLUMN gone2;
INSERT INTO "My Schema"."Odd ""Docs"" é"
SELECT CASE i % 2 WHEN 0 THEN 'good' ELSE 'bad' END::"My Schema"."Mood", i <> 3, 'odd ' || i, i
FROM generate_series(1, 6) i;

CREATE TABLE parts (gone int, id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
ALTER TABLE parts DROP COLUMN gone;
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (5);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (5) TO (100);
INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 8) i;
"""

PIPELINES = """
SELECT embed_model_add('h8', 'hash', 8);
SELECT embed_setting('cache_retention', '20 days');
SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop');
SELECT embed_create('odd "name"', '"My Schema"."Odd ""Docs"" é"', template => 'Of it: ${Text of it}',
                    only_if => 'alive', model => 'h8', view_name => 'Odd View', chunker => embed_chunk_text(20));
SELECT embed_create('parts', 'parts', columns => '{body}', model => 'h8', options => '{"max_attempts": 3}');
"""

CHANGES = """
UPDATE docs SET body = 'edited before' WHERE id = 1;
DELETE FROM docs WHERE id = 2;
UPDATE docs SET unwatched = 'v';
INSERT INTO parts VALUES (90, 'new part');
TRUNCATE parts_low;
SELECT embed_pause('parts');
"""


def make_lively(db: Connection, provider: LoopbackProvider) -> None:
    """Three drained pipelines, one dead letter, and changes that wait; the provider's model is there already."""
    db.execute("DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    db.execute(SOURCES)
    db.execute(PIPELINES)
    db.execute("CALL embed_work(until_empty => true)")
    provider.answer = lambda texts: (422, b"no") if any("poison" in text for text in texts) else None
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 7")
    db.execute("CALL embed_work(until_empty => true)")
    db.execute(CHANGES)


def status(db: Connection) -> dict[str, tuple[Any, ...]]:
    """What embed_status says of each pipeline."""
    rows = db.execute("SELECT pipeline, state, rows, fresh, pending, in_flight, failed FROM embed_status")
    return {row[0]: row[1:] for row in rows}


def work_and_vectors(db: Connection) -> dict[str, list[str]]:
    """Everything but what says where a pipeline is, which is another place now."""
    places = {"embed.pipeline", "embed.generation", "embed.intake", "embed.scan"}
    return {table: rows for table, rows in contents(db).items() if table not in places}


def goes_on(db: Connection, provider: LoopbackProvider) -> None:
    """Whatever was pending becomes fresh, whatever is edited now too, and nothing else is embedded again."""
    provider.reset()
    changes = "SELECT count(*) FROM embed.change"
    (before,) = db.execute(changes).fetchone()
    db.execute("UPDATE docs SET unwatched = 'w', n = n + 1")
    assert db.execute(changes).fetchone() == (before,)
    db.execute("UPDATE docs SET body = 'edited after' WHERE id = 3")
    db.execute("UPDATE docs SET title = 'title after' WHERE id = 4")
    assert db.execute(changes).fetchone() == (before + 2,)  # and no worker has run here yet
    drain(db)
    wanted = {"title 1\n\nedited before", "title 3\n\nedited after", "title after\n\nbody 4"}
    # Whether what was given up is tried once more or not, and then a harmless text to see whose fault it is.
    assert {*provider.sent} - {"title 7\n\npoison", "evergreen"} == wanted
    assert verified(db, "docs") == {"fresh": 8, "stale": 1}  # the dead letter
    assert verified(db, 'odd "name"') == {"fresh": 6}
    db.execute("SELECT embed_resume('parts')")
    drain(db)
    assert verified(db, "parts") == {"fresh": 5}
    nearest = db.execute("SELECT key FROM embed_search('docs', E'title 3\n\nedited after', k => 1)").fetchone()
    assert nearest == ([3],)


def once_each(db: Connection) -> None:
    """Every source has its triggers once, all of them always on."""
    found = db.execute(
        "SELECT t.tgrelid::regclass::text, count(*), count(DISTINCT t.tgname), bool_and(t.tgenabled = 'A')"
        " FROM pg_trigger t WHERE t.tgname LIKE 'evergreen%' AND NOT t.tgisinternal GROUP BY 1 ORDER BY 1"
    ).fetchall()
    names = ['"My Schema"."Odd ""Docs"" é"', "docs", "parts", "parts_high", "parts_low"]
    assert found == [(name, 4, 4, True) for name in names]
