"""The queue as compute outside uses it: what came back from a model is not lost to a lock."""

import threading

from evergreen_host.compute.client import QueueClient
from evergreen_host.compute.embedder import format_vector
from tests.fixtures.stress import make_docs
from tests.fixtures.waiting import wait_until


def test_a_submission_waits_for_whoever_has_the_vectors_locked(dsn, db, connect, model):
    """As embed_promote and embed_retire have for an instant, or for longer where the machine is busy."""
    make_docs(db, 3)
    queue = QueueClient(dsn, "docs", "5 min", None)
    texts = queue.claim(10)
    other = connect(autocommit=False)
    other.execute("LOCK TABLE embed_store.g1 IN ACCESS EXCLUSIVE MODE")
    done = []
    vectors = [format_vector([1.0] * 8)] * len(texts)
    thread = threading.Thread(target=lambda: done.append(queue.submit(texts, vectors, None)), daemon=True)
    thread.start()
    waits = "SELECT count(*) FROM pg_locks WHERE relation = 'embed_store.g1'::regclass AND NOT granted"
    wait_until(lambda: db.execute(waits).fetchone() == (1,), what="the first try")
    wait_until(lambda: db.execute(waits).fetchone() == (0,), what="its end")
    assert thread.is_alive()
    other.rollback()
    thread.join(20)
    assert done == [3]
