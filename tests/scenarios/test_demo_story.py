"""The demo's figures are correct."""

from collections.abc import Iterator

import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus, story
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session

ROWS = 400


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    documents = corpus.load("python", ROWS)
    assert documents is not None
    with Cluster() as cluster, Session(cluster.dsn(), Screen()) as session:
        story.set_up(session, Screen(), documents)
        story.drain_until_empty(session)
        yield session


def test_only_edited_texts_are_sent(session: Session):
    taken = dict(zip([step.what for step in story.DAY], story.measure_day(session), strict=True))
    assert {what: measured.sent for what, measured in taken.items() if measured.sent} == {"texts edited": ROWS // 100}
    assert taken["a counter updated in every row"].by_trigger == ROWS
    assert taken["rows deleted"].by_trigger == 0


def test_undone_edits_need_no_call(session: Session):
    session.do("edit")
    story.drain_until_empty(session)
    session.do("undo")
    assert "the model would not be called" in session.value("explain")
