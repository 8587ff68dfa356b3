"""psycopg with pgvector's types, SQLAlchemy and Alembic: ordinary tables, ordinary views, ordinary migrations."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from pgvector.psycopg import register_vector
from pgvector.sqlalchemy import Vector
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, Column, Integer, MetaData, Table, Text, create_engine, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.roles import hash_model


class Base(DeclarativeBase):
    """The application's models."""


class Doc(Base):
    """A table of the application."""

    __tablename__ = "docs"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]


# As an application would describe it: of no MetaData that migrations are made of.
EMBEDDING = Table(
    "docs_embedding",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("chunk_no", Integer, primary_key=True),
    Column("chunk", Text),
    Column("embedding", Vector(8)),
)


def url(dsn):
    parts = conninfo_to_dict(dsn)
    query = {"host": parts["host"], "port": str(parts["port"])}
    return URL.create("postgresql+psycopg", username=parts["user"], database=parts["dbname"], query=query)


@pytest.fixture
def engine(dsn, db):
    made = create_engine(url(dsn))
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.add_all(Doc(id=i, title=f"title {i}", body=f"body {i}") for i in range(1, 6))
        session.commit()
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'hash8')")
    drain_all(db)
    yield made
    made.dispose()


def test_psycopg_with_pgvector(db, engine):
    register_vector(db)
    vector, question = db.execute(
        "SELECT embedding, embed_query('docs', 'body 3') FROM docs_embedding WHERE id = 3"
    ).fetchone()
    assert vector.dimensions() == question.dimensions() == 8
    near = "SELECT id FROM docs_embedding ORDER BY embedding <=> %s LIMIT 1"
    assert db.execute(near, (vector,)).fetchone() == (3,)


def test_a_session_writes_and_searches(db, engine):
    with Session(engine) as session:
        session.get(Doc, 2).body = "quite another body"
        session.add(Doc(id=6, title="new", body="new"))
        session.delete(session.get(Doc, 5))
        session.commit()
    drain_all(db)
    assert verified(db)["fresh"] == 5
    distance = EMBEDDING.c.embedding.cosine_distance(func.embed_query("docs", "title 2\n\nquite another body"))
    query = select(Doc).join(EMBEDDING, EMBEDDING.c.id == Doc.id).order_by(distance).limit(1)
    with Session(engine) as session:
        assert session.scalars(query).one().id == 2
        rows = session.execute(text("SELECT key, score FROM embed_search('docs', 'new', k => 3)")).all()
        assert len(rows) == 3


def test_an_inspector_sees_the_view_and_no_table_of_ours(engine):
    found = inspect(engine)
    assert found.get_table_names() == ["docs"]
    assert "docs_embedding" in found.get_view_names()
    assert [column["name"] for column in found.get_columns("docs")] == ["id", "title", "body"]
    assert found.get_indexes("docs") == []


@pytest.fixture
def alembic(tmp_path: Path, dsn, engine):
    """An application's migrations, with an env.py as `alembic init` makes it; ``whole``: of all schemas."""

    def make(metadata, *, whole=False):
        (tmp_path / "versions").mkdir(exist_ok=True)
        (tmp_path / "script.py.mako").write_text(
            '"""${message}"""\nrevision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n'
            'import sqlalchemy as sa\nfrom alembic import op\n\ndef upgrade():\n    ${upgrades or "pass"}\n'
        )
        # What docs/how-to/clients/sqlalchemy.md says of include_schemas.
        names = "lambda name, kind, parents: not (kind == 'schema' and name in {'embed', 'embed_store'})"
        options = f"include_schemas=True, include_name={names}" if whole else ""
        (tmp_path / "env.py").write_text(
            textwrap.dedent(f"""
            from alembic import context
            config = context.config
            with config.attributes["engine"].connect() as connection:
                context.configure(connection=connection, target_metadata=config.attributes["metadata"], {options})
                with context.begin_transaction():
                    context.run_migrations()
            """)
        )
        config = Config()
        config.set_main_option("script_location", str(tmp_path))
        config.set_main_option("path_separator", "os")
        config.attributes.update(engine=engine, metadata=metadata)
        return config

    return make


@pytest.mark.parametrize("whole", [False, True], ids=["one schema", "all schemas"])
def test_autogenerate_finds_nothing_to_do(alembic, whole):
    config = alembic(Base.metadata, whole=whole)
    command.upgrade(config, "head")
    made: Any = command.revision(config, autogenerate=True)
    upgrade = Path(made.path).read_text().split("def upgrade():")[1]
    assert [line.strip() for line in upgrade.splitlines() if line.strip() and not line.strip().startswith("#")] == [
        "pass"
    ]


MIGRATIONS = {
    "add": ("op.add_column('docs', sa.Column('views', sa.Integer))", {"title 1\n\nbody 1"}, None),
    "alter": ("op.alter_column('docs', 'body', type_=sa.String(200), nullable=True)", {"title 1\n\nbody 1"}, None),
    "rename": ("op.alter_column('docs', 'body', new_column_name='content')", {"title 1\n\nbody 1"}, None),
    "rename table": ("op.rename_table('docs', 'papers')", {"title 1\n\nbody 1"}, None),
    "drop": ("op.drop_column('docs', 'body')", None, 'column "body" of the source was dropped'),
    "drop table": ("op.drop_table('docs')", None, "the source table was dropped"),
}


@pytest.mark.few(2)
@pytest.mark.parametrize(("statement", "texts", "reason"), MIGRATIONS.values(), ids=MIGRATIONS)
def test_migrations_go_through_and_the_pipeline_follows(db, alembic, statement, texts, reason):
    config = alembic(Base.metadata)
    made: Any = command.revision(config, "a change", autogenerate=False)
    path = Path(made.path)
    path.write_text(path.read_text().replace("    pass", f"    {statement}"))
    command.upgrade(config, "head")
    assert ScriptDirectory.from_config(config).get_current_head() == made.revision
    drain_all(db)
    state, said = db.execute("SELECT state, coalesce(last_error, '') FROM embed_status").fetchone()
    assert (state == "broken") == (reason is not None)
    assert (reason or "") in said
    if texts is not None:
        view = db.execute("SELECT chunk FROM docs_embedding WHERE id = 1 AND NOT is_stale").fetchall()
        assert {chunk for (chunk,) in view} == texts
