"""`evergreen import pgai` from what pgai itself made: its catalog, its worker, its splitters, and its own drop."""

import pytest

from tests.fixtures import pgai_catalog
from tests.fixtures.paths import PROJECT
from tests.fixtures.pgai_environment import Worker, environment
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.stress.pgai.command import imported

pytestmark = pytest.mark.stress

CREATE = """SELECT ai.create_vectorizer('wiki'::regclass, name => %s,
    loading => ai.loading_column('body'), embedding => ai.embedding_openai('m', 8, base_url => %s),
    chunking => {chunking}, formatting => ai.formatting_python_template({template}),
    destination => ai.destination_table(%s), indexing => ai.indexing_none(), scheduling => ai.scheduling_none())"""
SPLITTERS = {
    "plain": ("ai.chunking_none()", "'$chunk'"),
    "framed": ("ai.chunking_none()", "'${title} costs $$5: $chunk'"),
    "recursive": ("ai.chunking_recursive_character_text_splitter()", "E'$title\\n\\n$chunk'"),
    "small": ("ai.chunking_recursive_character_text_splitter(60, 20)", "'$chunk'"),
    "odd": ("ai.chunking_recursive_character_text_splitter(90, 0, ARRAY['## ', '. ', ' '])", "'$chunk'"),
    "lines": ("ai.chunking_character_text_splitter(200, 50, E'\\n')", "'$chunk of $id'"),
}


@pytest.fixture
def worker(db, dsn):
    made = Worker(environment(), dsn)
    yield made
    made.end()


@pytest.fixture
def wiki(db):
    """Real texts: the documentation of this project, by paragraphs and whole."""
    root = PROJECT
    names = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
    texts = [text for name in names for text in (root / name).read_text("utf-8").split("\n## ")]
    db.execute("CREATE TABLE wiki (id int PRIMARY KEY, title text NOT NULL, body text)")
    for number, text in enumerate([*texts, "", "é" * 500, "one\n\n\n\ntwo\n", None]):
        db.execute("INSERT INTO wiki VALUES (%s, %s, %s)", (number, f"Title {number}", text))


@pytest.mark.parametrize("name", SPLITTERS)
def test_what_pgai_embedded_is_not_sent_again(db, dsn, provider, worker, wiki, name):
    provider.register(db, "m", send_dimensions=True)
    chunking, template = SPLITTERS[name]
    create = CREATE.format(chunking=chunking, template=template)
    db.execute(create, (name, provider.url, f"wiki_{name}"))  # type: ignore[arg-type]
    worker.work()
    db.execute("UPDATE wiki SET body = 'edited' WHERE id = 1")
    db.execute("DELETE FROM wiki WHERE id = 2")
    db.execute("INSERT INTO wiki VALUES (1000, 'new', 'new')")
    (chunks,) = db.execute(f"SELECT count(*) FROM wiki_{name}_store").fetchone()
    assert chunks >= 19
    provider.reset()
    said = imported(dsn, "--drop")
    assert (said["chunks"], said["imported"], said["to_embed"], said["dropped"]) == (chunks, chunks, 2, True)
    drain_all(db)
    assert sum(provider.sent.values()) == 2
    assert_fresh(db, "wiki", db.execute("SELECT count(*) FROM wiki").fetchone()[0])
    assert db.execute("SELECT count(*) FROM ai.vectorizer").fetchone() == (0,)


def test_the_catalog_of_the_other_tests_is_as_pgais(db, dsn, cluster, worker, wiki):
    """Of what an import reads: the columns of ai.vectorizer, and of the table with the vectors."""
    create = CREATE.format(chunking="ai.chunking_none()", template="'$chunk'")
    db.execute(create, ("real", "http://127.0.0.1:1", "wiki_real"))  # type: ignore[arg-type]

    def columns(of):
        query = (
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attnum > 0"
            " AND NOT attisdropped AND attrelid = %s::regclass ORDER BY attname"
        )
        return db.execute(query, (of,)).fetchall()

    def parts():
        (found,) = db.execute("SELECT config FROM ai.vectorizer").fetchone()
        return {name: sorted(part) for name, part in found.items() if name in pgai_catalog.config()}

    catalog, target, real = columns("ai.vectorizer"), columns("wiki_real_store"), parts()
    db.execute("SELECT ai.drop_vectorizer('real', drop_all => true); DROP SCHEMA ai CASCADE")
    pgai_catalog.make(db, "wiki", pgai_catalog.config())
    assert {name for name, *_ in columns("ai.vectorizer")} == {name for name, *_ in catalog}
    assert columns("wiki_embedding_store") == target
    assert {name: set(real[name]) >= set(part) for name, part in parts().items()} == dict.fromkeys(parts(), True)
