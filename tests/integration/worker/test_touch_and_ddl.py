"""A user's trigger that touches rows never fails because another session has locked the source."""

from tests.fixtures.pipelines.documents import assert_as_source, drain_all


def test_a_touch_beside_a_truncate_or_an_alter_table_is_not_refused(connect, db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop', capture => 'manual')")
    drain_all(db)
    provider.reset()
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, doc int)")
    db.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM embed_touch('docs', to_jsonb(NEW.doc)); RETURN NULL; END$$"
    )
    db.execute("CREATE TRIGGER touch AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch()")
    other = connect(autocommit=False)
    other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
    other.execute("UPDATE docs SET body = 'edited' WHERE id = 3")
    db.execute("INSERT INTO notes VALUES (1, 3)")
    other.commit()
    drain_all(db)
    assert_as_source(db)
    assert provider.sent == {"title 3\n\nedited": 1}
