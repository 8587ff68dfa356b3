"""A vectorizer of pgai, and its model as ours."""

import pytest

from tests.fixtures import pgai_catalog
from tests.fixtures.pgai_catalog import config
from tests.fixtures.pipelines.documents import source_texts
from tests.stress.pgai.command import FRAME


@pytest.fixture
def served(db, provider):
    """pgai's model, as ours."""
    provider.register(db, "m", send_dimensions=True)
    return "m"


@pytest.fixture
def vectorizer(db, docs, served):
    """A vectorizer of docs that has embedded rows 1 to 8; then 2 was edited, 3 deleted, 11 added."""
    db.execute("ALTER TABLE docs ALTER title SET NOT NULL")
    made = pgai_catalog.make(db, "docs", config(**FRAME), name="docs_vectorizer")
    texts = source_texts(db)
    pgai_catalog.embedded(db, "docs", [(key, [texts[key]]) for key in range(1, 9)])
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 2")
    db.execute("DELETE FROM docs WHERE id = 3")
    db.execute("INSERT INTO docs VALUES (11, 'title 11', 'body 11')")
    return made
