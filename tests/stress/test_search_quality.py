"""Search finds what a person would expect: of ten fixed questions, eight have their document among the first five."""

from typing import get_args

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.demo.story import drain_until_empty

pytestmark = pytest.mark.stress


ROWS = 3000
FIRST = 5
ENOUGH = 8

SEARCH = """\
SELECT d.id FROM embed_search('docs', %s, k => %s) s JOIN docs d ON d.id = (s.key ->> 0)::int ORDER BY s.score DESC
"""


def fill(cluster: Cluster, collection: corpus.Corpus) -> None:
    with Session(cluster.dsn(), Screen()) as session:
        for name in ("create_extension", "create_table"):
            session.do(name)
        session.load(collection.documents)
        session.value("create_pipeline")
        drain_until_empty(session)


@pytest.mark.parametrize("name", get_args(corpus.Name))
def test_questions_find_their_documents(name: corpus.Name):
    collection = corpus.load(name, ROWS)
    if collection is None:
        pytest.skip(f"this machine has no {name} documents and can fetch none")
    names = [document.name for document in collection.documents]
    missed: list[str] = []
    with Cluster() as cluster:
        fill(cluster, collection)
        with psycopg.connect(cluster.dsn()) as connection:
            for question, expected in collection.questions.items():
                found = [names[number - 1] for (number,) in connection.execute(SEARCH, (question, FIRST))]
                if expected not in found:
                    missed.append(f"{question} -> {found}, not {expected}")
    assert len(collection.questions) - len(missed) >= ENOUGH, missed
