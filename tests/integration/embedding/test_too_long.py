"""``on_too_long => truncate``: a text that the server refuses is cut by halves until it is accepted.

The kind: the server counts tokens otherwise than we estimate them, so a text may be too long that has fewer characters
than ``input_tokens``, and the refusal may come with any status.
"""

import orjson
import pytest

from tests.fixtures.pipelines.documents import drain_once, shown, status_of
from tests.fixtures.pipelines.endpoints import create, serve, table

pytestmark = pytest.mark.shared_database

REFUSALS = {
    "413 of TEI": (413, b'{"error": "Input validation error: inputs must have less than 512 tokens"}'),
    "400 of vLLM": (400, b'{"message": "maximum context length is 512 tokens"}'),
    "422 without a word": (422, b""),
    "500 of llama.cpp": (500, b"input (600 tokens) is too large to process. increase the physical batch size"),
    "500 of Ollama": (500, b'{"error": "the input length exceeds the context length"}'),
    "429 of OpenAI": (429, b"Request too large for text-embedding-3-small on tokens per min (TPM)"),
}


def make(db, provider, refusal, longest, **options):
    serve(db, provider, "loop", {"input_tokens": 512})
    table(db, "docs", 20)
    db.execute("UPDATE docs SET title = repeat('x', 393) WHERE id = 7")  # with its body, 399 characters
    provider.answer = lambda texts: refusal if any(len(text) > longest for text in texts) else None
    create(db, **options)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_text_is_cut_until_it_is_accepted(db, provider, refusal):
    make(db, provider, REFUSALS[refusal], 60, on_too_long="truncate")
    drain_once(db)
    assert len(shown(db)) == 20
    assert status_of(db, "failed") == 0
    tries = [len(text) for texts in provider.requests if len(texts) == 1 for text in texts if "xxx" in text]
    assert tries == [399, 199, 99, 49]


def test_without_the_option_it_is_a_dead_letter_and_the_others_are_fresh(db, provider):
    make(db, provider, REFUSALS["500 of llama.cpp"], 60)
    drain_once(db)
    assert len(shown(db)) == 19
    assert db.execute("SELECT key::text, class FROM embed_failures").fetchall() == [("[7]", "permanent")]


def test_what_is_refused_however_short_it_is_is_given_up(db, provider):
    make(db, provider, (400, orjson.dumps({"error": "not this"})), 60, on_too_long="truncate")
    provider.answer = lambda texts: (400, b"no") if any("xx" in text for text in texts) else None
    drain_once(db)
    assert len(shown(db)) == 19
    assert status_of(db, "failed") == 1
    assert min(len(text) for text in provider.sent) == 12, "half of that is shorter than any limit"
    assert len(provider.requests) < 20
