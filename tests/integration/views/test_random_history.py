"""Random histories of several sessions over five tables and a nested view: each quiet point finds every text fresh."""

import json

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import CREATE, DEPENDS, stored, wanted

IDS = st.integers(1, 4)
NAMES = st.sampled_from(["ant", "bee", "cat", "dog", "elk"])
CODES = st.sampled_from(["de", "fr", "it"])
RENAME = "UPDATE {} SET name = %s WHERE id = %s"
CHANGES = st.one_of(
    st.tuples(st.just("INSERT INTO product VALUES (%s, %s, NULL, 1) ON CONFLICT DO NOTHING"), st.tuples(IDS, NAMES)),
    st.tuples(st.just("DELETE FROM product WHERE id = %s"), st.tuples(IDS)),
    st.tuples(st.just(RENAME.format("product")), st.tuples(NAMES, IDS)),
    st.tuples(st.just("UPDATE product SET price = price + 1 WHERE id = %s"), st.tuples(IDS)),
    st.tuples(st.just("UPDATE product SET brand_id = %s WHERE id = %s"), st.tuples(st.one_of(st.none(), IDS), IDS)),
    st.tuples(st.just("UPDATE product SET id = %s WHERE id = %s"), st.tuples(IDS, IDS)),
    st.tuples(st.just("INSERT INTO brand VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"), st.tuples(IDS, NAMES, CODES)),
    st.tuples(st.just(RENAME.format("brand")), st.tuples(NAMES, IDS)),
    st.tuples(st.just("UPDATE brand SET country = %s WHERE id = %s"), st.tuples(st.one_of(st.none(), CODES), IDS)),
    st.tuples(st.just("DELETE FROM brand WHERE id = %s"), st.tuples(IDS)),
    st.tuples(st.just("INSERT INTO tag VALUES (%s, %s) ON CONFLICT DO NOTHING"), st.tuples(IDS, NAMES)),
    st.tuples(st.just(RENAME.format("tag")), st.tuples(NAMES, IDS)),
    st.tuples(st.just("INSERT INTO product_tag VALUES (%s, %s) ON CONFLICT DO NOTHING"), st.tuples(IDS, IDS)),
    st.tuples(st.just("UPDATE product_tag SET product_id = %s WHERE product_id = %s"), st.tuples(IDS, IDS)),
    st.tuples(st.just("DELETE FROM product_tag WHERE tag_id = %s"), st.tuples(IDS)),
    st.tuples(st.just("TRUNCATE product_tag"), st.just(())),
    st.tuples(st.just("INSERT INTO country VALUES (%s, %s) ON CONFLICT DO NOTHING"), st.tuples(CODES, NAMES)),
    st.tuples(st.just("UPDATE country SET name = %s WHERE code = %s"), st.tuples(NAMES, CODES)),
)
ENDS = st.tuples(st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK"]), st.just(()))
STEPS = st.tuples(st.integers(0, 2), st.one_of(CHANGES, CHANGES, CHANGES, ENDS))
HISTORIES = st.lists(st.one_of(STEPS, STEPS, STEPS, STEPS, st.sampled_from(["quiet", "work"])), min_size=5, max_size=40)
LEVELS = ["read committed", "repeatable read", "serializable"]


class History:
    """Three sessions, each of another isolation level, that write; a fourth that works."""

    def __init__(self, db, sessions, provider):
        self.db, self.sessions, self.provider = db, sessions, provider
        self.paid: set[str] = set()

    def begin(self):
        self.db.execute("TRUNCATE product, product_tag, brand, country, tag")
        self.db.execute("INSERT INTO country VALUES ('de', 'ant'), ('fr', 'bee')")
        self.db.execute("INSERT INTO brand VALUES (1, 'cat', 'de'), (2, 'dog', NULL)")
        self.db.execute("INSERT INTO product VALUES (1, 'elk', 1, 1), (2, 'ant', 2, 1)")
        self.db.execute("INSERT INTO tag VALUES (1, 'bee'), (2, 'cat')")
        self.db.execute("INSERT INTO product_tag VALUES (1, 1), (2, 1), (2, 2)")
        drain(self.db)
        self.paid |= set(self.provider.sent)
        self.provider.reset()

    def step(self, number, statement, parameters):
        session = self.sessions[number]
        try:
            session.execute(statement, parameters)
        except psycopg.Error:  # a lock that another session holds, a constraint, a serialization failure
            session.execute("ROLLBACK")

    def work(self):
        """Between two quiet points, texts that are gone again may be sent, each of them once."""
        self.db.execute("CALL embed_work(max_runtime => '5 s', until_empty => true)")
        assert all(times == 1 for times in self.provider.sent.values())
        assert not set(self.provider.sent) & self.paid
        self.paid |= set(self.provider.sent)
        self.provider.reset()

    def quiet(self):
        for session in self.sessions:
            session.execute("COMMIT")
        now = wanted(self.db)
        new = set(now.values()) - self.paid
        self.work_to_the_end()
        assert stored(self.db) == now
        assert dict(self.provider.sent) == dict.fromkeys(new, 1)
        assert verify(self.db, "products")["fresh"] == self.db.execute("SELECT count(*) FROM products").fetchone()[0]
        self.paid |= new
        self.provider.reset()

    def work_to_the_end(self):
        drain(self.db)
        assert self.db.execute("SELECT count(*) FROM embed.link_cursor").fetchone() == (0,)

    def play(self, steps):
        self.begin()
        for step in steps:
            if step == "quiet":
                self.quiet()
            elif step == "work":
                self.work()
            else:
                number, (statement, parameters) = step
                self.step(number, statement, parameters)
        self.quiet()


@pytest.fixture
def history(db, connect, model, shop, provider):
    db.execute("ALTER TABLE brand DROP CONSTRAINT brand_country_fkey")
    db.execute("ALTER TABLE product DROP CONSTRAINT product_brand_id_fkey")
    db.execute("ALTER TABLE product_tag DROP CONSTRAINT product_tag_tag_id_fkey")
    db.execute("ALTER TABLE product_tag DROP CONSTRAINT product_tag_product_id_fkey")
    db.execute("SELECT embed_setting('cache_limit', '100000')")
    db.execute(CREATE, [json.dumps(DEPENDS)])
    drain(db)
    options = "-c lock_timeout=50 -c default_transaction_isolation={}"
    sessions = [connect(options=options.format(level.replace(" ", "\\ "))) for level in LEVELS]
    return History(db, sessions, provider)


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.slow
def test_every_quiet_point_finds_all_texts_fresh(history):
    settings(max_examples=12, derandomize=True, **QUICK)(given(HISTORIES)(history.play))()


@pytest.mark.stress
def test_every_quiet_point_of_long_histories_finds_all_texts_fresh(history):
    settings(max_examples=300, **QUICK)(given(HISTORIES)(history.play))()
