"""Random histories of one session, with every operation there is, against what must be true of them."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.pipelines.endpoints import let_time_pass
from tests.fixtures.pipelines.history import BAD, MIND, MISS, Clerk, History, text_of

KEYS = st.integers(1, 5)
BODIES = ["red", "blue", f"{BAD} apple", " ", None]
CONTENTS = st.tuples(st.sampled_from(["one", None]), st.sampled_from(BODIES))
KINDS = ["insert", *["update"] * 4, "upsert", "upsert", "save", "delete", "rekey", "truncate"]
WRITES = st.tuples(st.sampled_from(KINDS), KEYS, KEYS, CONTENTS)
OPTIONS = ['{"live_share": 0.5}', '{"live_share": null}', '{"max_attempts": 1}', '{"max_attempts": null}']
CREATE = "SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')"
EMPTY = ("cache", "erased_text", "in_flight", "lease", "job", "change_log", "failure")


class Random(RuleBasedStateMachine):
    """One pipeline, one session; ``db`` and ``clerk`` are put here by the test."""

    def __init__(self, db, clerk):
        super().__init__()
        self.db, self.clerk, self.history = db, clerk, History()
        self.is_paused = False
        clerk.is_down = clerk.refuses = False
        clerk.answered()
        db.execute("SELECT embed_drop('docs', if_exists => true)")
        for table in EMPTY:
            db.execute(f"DELETE FROM embed.{table}")
        db.execute("TRUNCATE docs")
        for key, body in enumerate(BODIES, start=1):
            self.history.write(db, "insert", key, key, ("one", body))
        self.history.committed({}, captured=True)
        let_time_pass(db)
        db.execute(CREATE)

    # The source

    @rule(edits=st.lists(st.tuples(KEYS, CONTENTS), min_size=1, max_size=4))
    def edit(self, edits):
        """Rows that are there get other texts."""
        for number, content in edits:
            if self.history.rows:
                key = sorted(self.history.rows)[number % len(self.history.rows)]
                self.transaction([("update", key, key, content)], ends=[], commits=True)

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4))
    def write(self, writes):
        for write in writes:
            self.transaction([write], ends=[], commits=True)

    @rule(
        writes=st.lists(WRITES, min_size=1, max_size=5), ends=st.lists(st.booleans(), max_size=2), commits=st.booleans()
    )
    def transaction(self, writes, ends, commits, captured=True):
        """The last writes stand in savepoints, one for each of ``ends``: released, or rolled back to."""
        history, before = self.history, dict(self.history.rows)
        plain = max(0, len(writes) - len(ends))
        self.db.execute("BEGIN")
        for write in writes[:plain]:
            history.write(self.db, *write)
        for write, is_released in zip(writes[plain:], ends, strict=False):
            kept = dict(history.rows)
            self.db.execute("SAVEPOINT one")
            history.write(self.db, *write)
            self.db.execute("RELEASE one" if is_released else "ROLLBACK TO one")
            history.rows = history.rows if is_released else kept
        self.db.execute("COMMIT" if commits else "ROLLBACK")
        history.rows = history.rows if commits else dict(before)
        history.committed(before, captured=captured)

    @rule(writes=st.lists(WRITES, min_size=1, max_size=3))
    def write_past_the_triggers(self, writes):
        self.db.execute(MISS)
        self.transaction(writes, ends=[], commits=True, captured=False)
        self.db.execute(MIND)

    # Work

    def work(self, statement):
        """Run it; what it pays for is the text of a row, and was not paid for before."""
        result = self.db.execute(statement).fetchone() if "SELECT" in statement else self.db.execute(statement)
        answered = self.clerk.answered()
        assert len(answered) == len(set(answered)), "a text was paid for twice at once"
        assert not set(answered) & self.history.paid, "a text was paid for again"
        assert set(answered) <= self.history.texts()
        assert not (answered and (self.is_paused or self.clerk.is_down))
        self.history.paid |= set(answered) - self.history.forgotten
        return result, set(answered)

    @rule(max_rows=st.integers(1, 4))
    def drain_some(self, max_rows):
        before = self.failures()
        (done,), _ = self.work(f"SELECT embed_drain(max_rows => {max_rows}, max_runtime => '{self.max_runtime}')")
        assert done <= max_rows
        given_up = {key for key, _ in self.failures() - before}
        assert not given_up or self.clerk.refuses
        assert all(BAD in text_of(self.history.rows[key]) for key in given_up)
        self.history.excused |= given_up

    @property
    def max_runtime(self):
        return "100 ms" if self.clerk.is_down else "20 s"

    @rule(by_worker=st.booleans())
    def work_until_done(self, by_worker):
        history = self.history
        needed = history.texts(without_excused=True) - history.paid - history.forgotten
        worker = f"CALL embed_work(until_empty => true, max_runtime => '{self.max_runtime}')"
        if by_worker:
            _, sent = self.work(worker)
        else:
            sent = set()
            for _ in range(20):
                (done,), answered = self.work(f"SELECT embed_drain(max_runtime => '{self.max_runtime}')")
                sent |= answered
                if not done:
                    break
        if self.is_paused or self.clerk.is_down:
            return
        if self.clerk.refuses:
            needed = {text for text in needed if BAD not in text}
            history.excused |= {
                key for key, c in history.rows.items() if BAD in text_of(c) and text_of(c) not in history.paid
            }
        assert needed <= sent, "a text was not sent"
        history.assert_fresh(self.db)
        assert self.dead_letters() <= history.excused
        assert status_of(self.db, "pending + in_flight") == 0

    def failures(self):
        """Keys that were given up, and when."""
        return {(key[0], at) for key, at in self.db.execute("SELECT key, last_at FROM embed_failures").fetchall()}

    def dead_letters(self):
        """Keys that were given up."""
        return {key for key, _ in self.failures()}

    # Operations

    @rule(kind=st.sampled_from(["touch", "retry", "verify", "repair", "pause", "forget", "alter", "drop"]), key=KEYS)
    def operate(self, kind, key):
        getattr(self, f"_{kind}")(key)

    def _touch(self, key):
        self.db.execute("SELECT embed_touch('docs', %s::jsonb, '1')", (str(key),))
        self.history.excused -= {key, 1}

    def _retry(self, _=None):
        dead = self.dead_letters()
        self.db.execute("SELECT embed_retry('docs')")
        self.history.excused -= dead

    def _verify(self, _=None, *, repair=False):
        found = dict(self.db.execute("SELECT * FROM embed_verify('docs', repair => %s)", (repair,)).fetchall())
        assert found["fresh"] + found["stale"] + found["missing"] + found["mixed"] == len(self.history.rows)
        shown = self.history.shown(self.db)
        fresh = {key for key, text in shown.items() if text == text_of(self.history.rows[key])}
        blank = sum(not text_of(content) for content in self.history.rows.values())
        assert len(fresh) <= found["fresh"] <= len(fresh) + blank
        assert found["mixed"] == 0

    def _repair(self, _=None):
        self._verify(repair=True)
        self.history.excused.clear()

    def _pause(self, _=None):
        self.db.execute("SELECT embed_resume('docs')" if self.is_paused else "SELECT embed_pause('docs')")
        self.is_paused = not self.is_paused

    def _forget(self, key):
        self.db.execute("SELECT embed_forget('docs', %s::jsonb)", (str(key),))
        texts = self.history.had.get(key, set())
        self.history.forgotten |= texts
        self.history.paid -= texts
        if key in self.history.rows:
            self.history.excused.add(key)
        assert key not in self.history.shown(self.db)

    def _alter(self, key):
        self.db.execute("SELECT embed_alter('docs', %s)", (OPTIONS[key % len(OPTIONS)],))

    def _drop(self, _=None):
        """What lived in the dropped pipeline may have to be paid for again; what was kept from before has not."""
        self.db.execute("SELECT embed_drop('docs')")
        self.db.execute(CREATE)
        self.history.forgotten |= self.history.paid
        self.history.paid.clear()
        self.history.excused.clear()
        self.is_paused = False

    @rule(is_down=st.booleans(), refuses=st.booleans())
    def the_model_changes(self, is_down, refuses):
        """It goes down or comes back, refuses some texts or none."""
        self.clerk.is_down, self.clerk.refuses = is_down, refuses
        let_time_pass(self.db)

    # What is true at every moment, and in the end

    @invariant()
    def the_view_is_right(self):
        self.history.shown(self.db)

    def teardown(self):
        """Everything is mended; then everything is fresh."""
        if self.is_paused:
            self._pause()
        self.clerk.is_down = self.clerk.refuses = False
        let_time_pass(self.db)
        self.work_until_done(by_worker=False)  # what was lost now would be healed by what follows
        self._retry()
        self._repair()
        self.work_until_done(by_worker=True)
        assert not self.history.excused
        assert dict(self.db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == len(self.history.rows)


@pytest.fixture
def machine(db, model, provider):
    """Makes machines that share one database, and clear it."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text, n int NOT NULL DEFAULT 0)")
    clerk = Clerk(provider)
    return lambda: Random(db, clerk)


NOT_HURRIED = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def test_random_histories(machine):
    """The same in every run."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=25, derandomize=True, **NOT_HURRIED)
    )


@pytest.mark.stress
def test_many_random_histories(machine):
    """Other ones in every run; a failure prints the steps that lead to it."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=400, stateful_step_count=50, print_blob=True, **NOT_HURRIED)
    )
