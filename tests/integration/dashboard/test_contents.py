"""What the pages show is what the database says."""

import re

import pytest

from evergreen_host.monitor import metrics
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import create, rest_longer
from tests.fixtures.pipelines.endpoints import serve as serve_model
from tests.fixtures.pipelines.two_models import build_both, serve_both
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database


def text_of(html):
    """The text of a page, one line for each line with a word."""
    plain = re.sub(r"<title>.*?</title>|<[^>]+>", " ", html)
    return re.sub(r"[ \n]+", " ", plain)


def seen(served, path="/"):
    served.site.poller.refresh()
    return text_of(served.ask(path).text)


def test_a_late_pipeline_and_why(serve, db, docs):
    hash_model(db)
    create(db, model="hash8", max_lag="1 minute")
    drain_all(db)
    db.execute("UPDATE docs SET body = 'edited' WHERE id < 4")
    db.execute("UPDATE embed.change_log SET changed_at = changed_at - interval '1 hour'")
    served = serve()
    for path in ("/", "/pipeline?name=docs"):
        assert re.search(
            r"late .*late since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: no worker is running", seen(served, path)
        )
    assert "need attention 1" in seen(served)
    assert "rows waiting 3" in seen(served)


def test_what_was_spent_and_saved_against_a_nightly_job(serve, db, docs, provider):
    serve_model(db, provider, model={"price": 1000})
    create(db)
    drain_all(db)
    db.execute("UPDATE docs SET body = 'another' WHERE id = 1")
    db.execute("UPDATE docs SET title = title")
    drain_all(db)
    db.execute("SELECT embed_backfill('docs')")
    drain_all(db)
    sent, saved = db.execute("SELECT texts, texts_saved FROM embed_status").fetchone()
    assert (sent, saved >= 10) == (11, True)
    told = seen(serve())
    assert f"texts sent {sent} 10" in told
    assert f"texts saved {saved} 0" in told
    tokens, cost = db.execute("SELECT tokens, cost FROM embed_status").fetchone()
    assert f"tokens {tokens} {tokens / 11 * 10:,.0f}" in told
    assert f"cost {cost:,.4f} {cost / 11 * 10:,.4f}" in told


def test_endpoints_breakers_and_learned_limits(serve, db, docs, provider):
    serve_model(db, provider)
    create(db)
    provider.answer = lambda _: (401, b"no")
    db.execute("SELECT embed_drain()")
    rest_longer(db)
    served = serve()
    endpoint = db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone()
    model = db.execute("SELECT id FROM embed.model WHERE name = 'loop'").fetchone()[0]
    db.execute(f"SELECT setval('embed.model_{model}_text_micros', 250001)")
    told = seen(served)
    assert f"loop {endpoint[0]} {endpoint[1]}" in told
    assert "250 ms" in told
    assert re.search(r"learned: \d+", told)


def test_models_with_revision_and_drift(serve, db, docs, provider):
    serve_model(db, provider)
    create(db)
    drain_all(db)
    db.execute(
        "INSERT INTO embed.model_watch (model, revision, settled, served_as, watched_at, drift)"
        " SELECT id, 3, false, 'loop-2026', now(), 0.0312 FROM embed.model WHERE name = 'loop'"
        " ON CONFLICT (model) DO UPDATE SET revision = 3, settled = false, served_as = 'loop-2026', drift = 0.0312"
    )
    told = seen(serve())
    assert re.search(r"loop openai loop 8 3 0\.0312 loop-2026 .* alternates", told)
    assert "model changed" in told


def test_generations_with_coverage_and_bridge_recall(serve, db, docs, provider):
    serve_both(db, provider)
    build_both(db, 200)
    db.execute("SELECT embed_bridge('docs', min_recall => 0.3)")
    served = serve()
    found = db.execute("SELECT generation, bridge_recall FROM embed_generations WHERE state = 'building'").fetchone()
    told = seen(served, "/pipeline?name=docs")
    assert re.search(rf"{found[0]} building new 1 200 0 0 about 100\.0 % no index {100 * found[1]:.1f} %", told)
    assert re.search(r"Overlap [\d.]+ % on average", text_of(served.ask("/pipeline/compare?name=docs").text))
    hits = text_of(served.ask("/pipeline/search?name=docs&q=title+7").text)
    assert "generation being built overlap with the active one" in hits


def test_batches_and_their_deadline(serve, db, docs, provider, dsn):
    serve_model(db, provider)
    create(db)
    db.execute(
        "INSERT INTO embed.batch"
        " (pipeline, model, model_revision, epoch, state, deadline, submitted_at, texts, last_error)"
        " SELECT p.id, m.id, 1, 0, s.state, now() - interval '1 hour', now() - interval '1 day', 1200, '<b>' || s.state"
        " FROM embed.pipeline p, embed.model m, (VALUES ('running'), ('preparing')) s (state) WHERE m.name = 'loop'"
    )
    served = serve()
    told = seen(served)
    assert re.search(r"running docs loop 1,200 0 0 \d{4}-\d\d-\d\d \d\d:\d\d \d{4}-\d\d-\d\d \d\d:\d\d, overdue", told)
    assert "<b>running" not in served.ask("/").text
    found = metrics.exposition(dsn)
    assert 'evergreen_batch_overdue{endpoint="loop"} 2.0' in found
    batch = db.execute("SELECT id FROM embed_batches WHERE state = 'preparing'").fetchone()[0]
    assert "the batch is cancelled" in served.act("cancel-batch", batch=str(batch)).text
    assert db.execute("SELECT state FROM embed_batches WHERE id = %s", (batch,)).fetchone() == ("cancelled",)
    assert served.act("cancel-batch", batch="x").status == 422


def test_a_spent_budget(serve, db, docs, provider):
    serve_model(db, provider, model={"inputs": 1})
    create(db, daily_tokens=5)
    db.execute("CALL embed_work(max_runtime => '0.5 s')")
    told = seen(serve(), "/pipeline?name=docs")
    assert "over budget" in told
    assert "spent today: daily_tokens" in told


def test_a_row_of_several_columns_and_its_map(serve, db):
    """Keys of two columns, names that need quotes, and a table that is sampled."""
    hash_model(db)
    db.execute('CREATE TABLE "My {docs}%s" ("A key" text, "n%" int, body text, PRIMARY KEY ("A key", "n%"))')
    db.execute("""INSERT INTO "My {docs}%s" SELECT 'a', i, 'text ' || i FROM generate_series(1, 3000) i""")
    db.execute("""SELECT embed_create('two', '"My {docs}%s"', columns => '{body}', model => 'hash8')""")
    drain_all(db)
    db.execute('ANALYZE "My {docs}%s"')
    served = serve()
    drawn = served.ask("/pipeline/map?name=two").text
    keys = re.findall(r'data-key="\[&#34;a&#34;, (\d+)\]"', drawn)
    assert 50 < len(keys) <= 400, drawn[:1500]
    assert len(set(keys)) == len(keys)
    assert "change" in served.ask("/pipeline/story?name=two&key=%5B%22a%22%2C7%5D").text


def test_a_map_of_nothing(serve, db, docs):
    hash_model(db)
    create(db, model="hash8")
    assert "too few vectors" in serve().ask("/pipeline/map?name=docs").text


def test_the_span_of_the_charts(serve, db, docs):
    hash_model(db)
    create(db, model="hash8")
    served = serve()
    for span in ("30 minutes", "24 hours"):
        page = served.ask(f"/pipeline?name=docs&span={span.replace(' ', '+')}").text
        assert re.search(rf'aria-current="true">{span}<', page)
        assert page.count('role="img"') == 4
