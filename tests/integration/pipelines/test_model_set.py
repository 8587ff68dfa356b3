"""embed_model_set: whatever is not part of a vector's identity can be corrected while a model is in use.

The kind: an option that was registered wrongly, or that a provider changed. It is set at any time, holds from the next
request on, embeds nothing again, and what had stopped for it goes on. The identity's options are refused with a hint.
"""

import json

import pytest
from psycopg import errors

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_all, drain_once, status_of
from tests.fixtures.providers import faults
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database

SET = "SELECT embed_model_set(%s, %s)"


def change(db, options, name="loop"):
    return db.execute(SET, (name, json.dumps(options))).fetchone()[0]


@pytest.fixture
def used(db, docs, provider):
    """A model with options, and a drained pipeline of ten rows."""
    provider.register(db, inputs=4, price=1, document_prompt="passage: ")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_all(db)
    assert max(map(len, provider.requests)) == 4
    provider.reset()
    return provider


def test_options_are_merged_and_hold_from_the_next_request_on(db, used):
    before = db.execute("SELECT embed_get_def('docs')").fetchone()
    assert change(db, {"inputs": 2, "price": 5, "encoding_format": "float"}) == {
        "inputs": 2, "price": 5, "encoding_format": "float", "document_prompt": "passage: "
    }  # fmt: skip
    db.execute("UPDATE docs SET body = 'new ' || id")
    drain_all(db)
    assert max(map(len, used.requests)) == 2
    assert {call.body["encoding_format"] for call in used.calls} == {"float"}
    assert change(db, {"inputs": None}) == {"price": 5, "encoding_format": "float", "document_prompt": "passage: "}
    assert db.execute("SELECT inputs, price FROM embed_models WHERE model = 'loop'").fetchone() == (2048, 5)
    assert db.execute("SELECT embed_get_def('docs')").fetchone() == before
    assert change(db, {}) == {"price": 5, "encoding_format": "float", "document_prompt": "passage: "}


def test_nothing_is_embedded_again(db, used):
    change(db, {"inputs": 1, "price": 0, "encoding_format": "float", "input_tokens": 1000, "request_tokens": 5000})
    db.execute("SELECT embed_backfill('docs')")
    drain_all(db)
    assert db.execute("SELECT rows FROM embed_verify('docs') WHERE state = 'fresh'").fetchone() == (10,)
    assert not used.requests


def test_what_had_stopped_for_it_goes_on(db, docs, provider):
    """A server that does not take base64: any text is refused, so the model rests, and its rows wait."""
    provider.register(db)
    provider.fail(faults.status(400), when=lambda call: call.body["encoding_format"] == "base64")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_once(db)
    assert status_of(db, "pending") == 10
    assert drain_once(db) == 0
    change(db, {"encoding_format": "float"})
    assert drain_once(db) == 10


def test_what_is_part_of_the_identity_is_refused(db, used):
    for options in (
        *({"document_prompt": "x"}, {"document_prompt": None}, {"query_prompt": "q"}, {"send_dimensions": True}),
        *({"dimensions": 16}, {"remote_name": "x"}, {"provider": "ollama"}, {"endpoint": "x"}, {"name": "x"}),
        {"inputs": 3, "query_prompt": "q"},
    ):
        error = refused(db, SET, ("loop", json.dumps(options)))
        assert error.sqlstate == "22023"
        assert "vectors" in str(error)
        assert "embed_build(" in error.diag.message_hint
    assert change(db, {"document_prompt": "passage: "})["document_prompt"] == "passage: "  # as it is


def test_what_makes_no_sense_is_refused(db, used):
    for options in (
        {"inputs": 0},
        {"price": -1},
        {"prise": 1},
        [],
        "x",
        {"input_tokens": "5"},
        {"encoding_format": "int8"},
    ):
        assert refused(db, SET, ("loop", json.dumps(options))).sqlstate == "22023"
    assert refused(db, SET, ("none", "{}")).sqlstate == "42704"
    assert refused(db, SET, (None, "{}")).sqlstate == "42704"


def test_a_price_that_limits_a_day_cannot_go(db, used):
    db.execute("SELECT embed_alter('docs', '{\"daily_cost\": 5}')")
    error = refused(db, SET, ("loop", '{"price": null}'))
    assert (error.sqlstate, "docs" in str(error)) == ("55000", True)
    change(db, {"price": 3})
    db.execute(error.diag.message_hint)
    assert "price" not in change(db, {"price": None})


def test_only_an_admin_may(db, connect, used):
    people(db)
    for role in ("alice", "the_worker", "the_payer"):
        with pytest.raises(errors.InsufficientPrivilege):
            connect(role).execute(SET, ("loop", "{}"))
    connect("the_admin").execute(SET, ("loop", '{"price": 7}'))


def test_of_the_providers_in_this_process_the_size_of_a_request_can_be_set(db, docs):
    assert change(db, {"inputs": 16}, "wordllama-64") == {"inputs": 16}
    assert db.execute("SELECT inputs FROM embed_models WHERE model = 'wordllama-64'").fetchone() == (16,)
    assert change(db, {"inputs": None}, "wordllama-64") == {}
    error = refused(db, SET, ("wordllama-64", '{"price": 1}'))
    assert error.diag.message_hint == "It has: inputs, watch, drift_limit."
    hash_model(db)
    change(db, {"inputs": 3}, "hash8")
    assert db.execute("SELECT inputs FROM embed_models WHERE model = 'hash8'").fetchone() == (3,)
