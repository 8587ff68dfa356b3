"""A pipeline that had to stop: what embed_status says to do about it is done, and mends it; its neighbours go on."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import all_fresh, assert_fresh, drain, status, texts_in_view, verify
from tests.fixtures.pipelines.owner_ddl import BROKEN, assert_others_go_on, cases

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

DROP = "SELECT embed_drop('docs')"
CREATE = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')"
# What is done, with the words of the message that say so; all texts afterwards; whether a pipeline on note goes on.
MENDED = {
    "drop of the watched column": (
        ["create it again without it"],
        [DROP, CREATE.replace("body", "note")],
        ["note", "note", "note"],
        True,
    ),
    "drop of only_if": (
        ["create it again without it"],
        [DROP, CREATE],
        ['"edited"', '"text 2"', '"text 4"'],
        True,
    ),
    "another type of only_if": (
        ["make it so"],
        ["ALTER TABLE docs ALTER live TYPE bool USING live <> 0"],
        ['"edited"', '"text 2"', '"text 4"'],
        True,
    ),
    "another type of the key": (["create it again"], [DROP, CREATE], ['"edited"', '"text 2"', '"text 4"'], False),
    "drop of the key's column": (
        ["create it again"],
        ["ALTER TABLE docs ADD nr int GENERATED ALWAYS AS IDENTITY PRIMARY KEY", DROP, CREATE],
        ['"edited"', '"text 2"', '"text 4"'],
        False,
    ),
    "drop of the primary key": (
        ["create it again"],
        ["ALTER TABLE docs ADD PRIMARY KEY (id)", DROP, CREATE],
        ['"edited"', '"text 2"', '"text 4"'],
        False,
    ),
    "another primary key": (["create it again"], [DROP, CREATE], ['"edited"', '"text 2"', '"text 4"'], False),
    "drop of the table": (
        ["remove the pipeline with embed_drop()"],
        [
            "CREATE TABLE docs (id int PRIMARY KEY, body text)",
            "INSERT INTO docs VALUES (1, 'recreated')",
            DROP,
            CREATE,
        ],
        ["recreated"],
        False,
    ),
}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    cases(
        {case: case for case in MENDED},
        "drop of the watched column",
        "another type of only_if",
        "another type of the key",
        "drop of the key's column",
        "drop of the table",
    ),
)
def test_what_the_message_says_mends_it(db, connect, live, case):
    words, steps, texts, note_goes_on = MENDED[case]
    db.execute("SELECT embed_create('notes', 'docs', columns => '{note}', model => 'h', view_name => 'notes_view')")
    assert_fresh(db, "notes", 3)
    db.execute("DROP VIEW users_view; SELECT embed_drop('template')")
    db.execute(BROKEN[case][0])
    assert all(word in status(db, "docs").last_error for word in words)
    if note_goes_on:
        live.execute("UPDATE docs SET note = 'note'")
        assert_fresh(db, "notes", 3)
        for statement in ("EXECUTE add (9, 'x')", "EXECUTE remove (9)") if "watched" not in case else ():
            live.execute(statement)  # of before
    else:
        assert "embed_drop()" in status(db, "notes").last_error
        db.execute("SELECT embed_drop('notes')")
    for step in steps:
        db.execute(step)
    assert_fresh(db, "docs", len(texts))
    assert texts_in_view(db, "app.docs_embedding") == texts
    other = connect()
    other.execute(
        "UPDATE app.docs SET body = 'after' WHERE body = 'recreated'" if "recreated" in texts[0] else "SELECT 1"
    )
    drain(db)
    assert verify(db, "docs") == all_fresh(len(texts))
    assert_others_go_on(db)


@pytest.mark.parametrize(
    "ddl", ["ALTER TABLE docs DROP body, ADD body text DEFAULT 'new'", "ALTER TABLE docs DROP body; ADD body text"]
)
def test_a_column_that_is_dropped_and_made_again_is_another_one(db, live, ddl):
    for part in ddl.replace("; ADD", "; ALTER TABLE docs ADD").split(";"):
        db.execute(part)
    db.execute("ALTER TABLE docs ADD filler int")  # whatever comes next is checked again
    said = status(db, "docs").last_error
    assert said.endswith("create it again")
    live.execute("UPDATE docs SET body = 'new'")
    db.execute("DROP VIEW users_view")
    db.execute(DROP)
    db.execute(CREATE)
    assert_fresh(db, "docs", 3)
    assert texts_in_view(db, "app.docs_embedding") == ["new"] * 3


def test_nothing_of_ours_keeps_a_schema_or_a_type_from_being_dropped_after_its_table(db, model):
    """Without CASCADE, as if we were not there."""
    db.execute("CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('good', 'bad'); CREATE DOMAIN s.word AS text")
    db.execute("CREATE TABLE s.docs (mood s.mood, id int, body s.word, PRIMARY KEY (id, mood))")
    db.execute("SELECT embed_create('docs', 's.docs', columns => '{body}', model => 'loop')")
    db.execute("INSERT INTO s.docs VALUES ('good', 1, 'text')")
    drain(db)
    db.execute("DROP TABLE s.docs; DROP TYPE s.mood; DROP DOMAIN s.word; DROP SCHEMA s")
    assert status(db, "docs").state == "broken"
    with pytest.raises(psycopg.errors.UndefinedTable, match="is gone") as refused:
        db.execute("SELECT embed_search('docs', 'text')")
    assert "embed_drop()" in refused.value.diag.message_hint
    assert drain(db) == 0
    db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'embed_store'::regnamespace").fetchone() == (
        0,
    )
    assert db.execute("SELECT count(*) FROM pg_proc WHERE pronamespace = 'embed_store'::regnamespace").fetchone() == (
        0,
    )


def test_a_drop_that_is_rolled_back_has_the_view_back(db, live):
    with db.transaction(force_rollback=True):
        db.execute("DROP VIEW users_view")
        db.execute("DROP TABLE docs")
        assert db.execute("SELECT to_regclass('app.docs_embedding')").fetchone() == (None,)
    live.execute("EXECUTE edit (1, 'kept')")
    assert_fresh(db, "docs", 3)
    assert "kept" in texts_in_view(db, "app.docs_embedding")


def test_a_view_of_the_users_on_ours_outlives_the_table(db, live):
    db.execute("DROP TABLE docs")
    assert db.execute("SELECT * FROM users_view").fetchall() == []
    assert db.execute("SELECT * FROM app.docs_embedding").fetchall() == []
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as refused:
        db.execute(DROP)
    assert "Drop those first" in refused.value.diag.message_hint


UNSEEN = (
    "ALTER TABLE docs RENAME body TO content",
    "ALTER TABLE docs RENAME id TO nr",
    "ALTER TABLE docs RENAME TO papers",
    "ALTER TABLE papers ALTER content TYPE text USING upper(content)",
    "ALTER TABLE papers DISABLE TRIGGER ALL",
    "UPDATE papers SET content = '\"unseen\"' WHERE nr = 1",
    "DELETE FROM papers WHERE nr = 2",
    "ALTER TABLE papers SET SCHEMA public",
)


def test_what_no_trigger_saw_heals_by_verify(db, live):
    """All of evergreen's event triggers are off, and then its triggers too."""
    triggers = ("evergreen_follow_ddl", "evergreen_follow_rewrite", "evergreen_follow_drop")
    for name in triggers:
        db.execute(f"ALTER EVENT TRIGGER {name} DISABLE")
    for number, statement in enumerate(UNSEEN):
        live.execute(statement)
        if number == 3:
            live.execute("UPDATE papers SET content = '\"seen\"', n = 2 WHERE nr = 4")
    for name in triggers:
        db.execute(f"ALTER EVENT TRIGGER {name} ENABLE ALWAYS")
    found = verify(db, "docs", repair=True)
    assert (found["stale"], found["orphan"]) == (2, 1)
    assert_fresh(db, "docs", 2)
    assert texts_in_view(db, "app.docs_embedding") == ['"seen"', '"unseen"']
    verify(db, "template", repair=True)
    assert_fresh(db, "template", 2)
    live.execute("UPDATE public.papers SET content = '\"captured\"' WHERE nr = 1")
    assert_fresh(db, "docs", 2)
    assert_others_go_on(db)


def test_a_drop_that_no_trigger_saw_is_noticed_by_the_next_worker(db, live):
    db.execute("ALTER EVENT TRIGGER evergreen_follow_drop DISABLE")
    live.execute("UPDATE docs SET body = 'never' WHERE id = 1")
    db.execute("DROP TABLE docs")
    assert drain(db) == 0
    found = status(db, "docs")
    assert (found.state, "embed_drop()" in found.last_error) == ("broken", True)
    assert_others_go_on(db)
    db.execute("DROP VIEW users_view")
    db.execute(DROP)
