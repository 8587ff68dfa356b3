"""Two lanes: live work goes before backfill, and each has its share however much there is in the other."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.pipelines.endpoints import create, serve, table
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '60 s')"
SHARES = [0.8, 0.5, 0.2]


@pytest.fixture
def history(db, provider):
    """A table of 300 rows without a pipeline; the model takes five texts a request, and one request at a time."""
    serve(db, provider, model={"inputs": 5}, max_in_flight=1)
    table(db, "docs", 300, text="old")


def write(db, rows, first=1001):
    table(db, "docs", rows, first=first, text="live")


def order_of(provider):
    """The lane of each text, as they were sent: 'l' and 'o'."""
    return "".join(text[0] for texts in provider.requests for text in texts)


@pytest.mark.few(1)
@pytest.mark.parametrize("share", SHARES)
def test_drains_give_each_lane_its_share(db, provider, history, share):
    """There is more live work all the time than a drain takes: backfill goes on; and live work before it."""
    create(db, live_share=share)
    for number in range(3):
        write(db, 100, first=1001 + 100 * number)
        provider.reset()
        assert db.execute("SELECT embed_drain(max_rows => 50)").fetchone() == (50,)
        sent = order_of(provider)
        assert sent.count("l") == round(50 * share)
        assert sent.count("o") == 50 - round(50 * share)
        assert sent.startswith("l" * 5)
    drain_all(db)
    assert_as_source(db)


def test_a_drain_gives_what_one_lane_leaves_to_the_other(db, provider, history):
    create(db, live_share=0.5)
    write(db, 5)
    db.execute("SELECT embed_drain(max_rows => 50)")
    assert (order_of(provider).count("l"), order_of(provider).count("o")) == (5, 45)
    drain_all(db)
    provider.reset()
    write(db, 60, first=2001)
    db.execute("SELECT embed_drain(max_rows => 50)")
    assert order_of(provider) == "l" * 50


@pytest.mark.few(1)
@pytest.mark.parametrize("share", SHARES)
def test_a_worker_with_a_backfill_under_way_gives_each_lane_its_share(connect, db, provider, history, share):
    """A burst of live work comes when all of the backfill is claimed: it overtakes, and does not stop it."""
    create(db, live_share=share)
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests(1)
    write(db, 50)
    claimed = "SELECT count(*) > 0 FROM embed.job WHERE lane = 0 AND token IS NOT NULL"
    wait_until(lambda: db.execute(claimed).fetchone()[0], what="live rows claimed")
    provider.release()
    work.result(60)
    assert_as_source(db)
    sent = order_of(provider)
    while_both = sent[sent.index("l") : sent.rindex("l") + 1]
    owed = len(while_both) * (1 - share)
    assert abs(while_both.count("o") - owed) <= 15  # three requests
    assert sent.index("l") <= 10  # behind what was under way, and what waited next
    assert sent.endswith("o" * 20)
