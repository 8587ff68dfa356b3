"""A bridge on real text: between models that are related and some that are not, by the number of pairs.

For each pair of models: recall and overlap as embed_bridge returns them, its time, and what searches by 200 titles find
through it: the share of the old model's first ten, and MRR@10 of the title's document by either.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import wordllama

from evergreen_host.demo import corpus
from tests.bench.lsa import LSA, Array
from tests.fixtures.providers.faults import Reply, status
from tests.fixtures.providers.loopback import LoopbackProvider

ROWS = 12_000
SIZES = (200, 500, 2000, 5000)
TITLES = 200
Embed = Callable[[Sequence[str]], Array]

pytestmark = pytest.mark.bench


@dataclass
class Models:
    """Models of the loopback provider by name, with their dimensions."""

    served: dict[str, tuple[Embed, int]]

    def __call__(self, reply: Reply) -> None:
        """Answer with the vectors of the model that was asked."""
        embed, _ = self.served[reply.call.body["model"]]
        reply.items = list(embed(reply.call.texts).tolist())


def models(texts: Sequence[str]) -> Models:
    folder = Path(wordllama.__file__).parent
    built_in = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((256, 256)))[0].astype(np.float32)

    def embed(given: Sequence[str]) -> Array:
        return np.asarray(built_in.embed(list(given), norm=True), dtype=np.float32)

    def turned(given: Sequence[str]) -> Array:
        noise = np.random.default_rng(len(given[0])).standard_normal((len(given), 256))
        return (embed(given) @ rotation + 0.02 * noise).astype(np.float32)

    return Models({"rotated": (turned, 256), "lsa": (LSA(texts, 384), 384)})


# The new model and the old one, and the least recall from 500 pairs on: of 200, only 40 are held out. Models that are
# not built in are the provider's.
PAIRS = {
    "128 -> 256 dimensions of one model": ("wordllama-128", "wordllama-256", 0.98),
    "rotation with noise": ("rotated", "wordllama-256", 0.95),
    "LSA-384 -> wordllama-256": ("lsa", "wordllama-256", 0.15),
    "wordllama-256 -> LSA-384": ("wordllama-256", "lsa", 0.15),
}


@pytest.fixture(scope="module")
def collection():
    return corpus.best(ROWS)


@pytest.fixture(scope="module")
def known(collection):
    return models([text(document) for document in collection.documents])


def text(document: Any) -> str:
    return f"{document.title}\n\n{document.body}"


def work(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as worker:
        worker.execute("CALL embed_work(until_empty => true)")


def found_by(db: psycopg.Connection[Any], titles: dict[int, str]) -> dict[int, list[int]]:
    search = "SELECT key FROM embed_search('docs', %s)"
    return {number: [key[0] for (key,) in db.execute(search, (title,))] for number, title in titles.items()}


def mrr(found: dict[int, list[int]]) -> float:
    return statistics.mean(1 / (keys.index(number) + 1) if number in keys else 0.0 for number, keys in found.items())


@pytest.mark.parametrize("pair", PAIRS)
def test_bridge(db, dsn, collection, known, provider: LoopbackProvider, capsys, pair):
    new, old, least = PAIRS[pair]
    provider.fail(known)
    provider.register(db, "loop")
    for name, (_, dimensions) in known.served.items():
        db.execute("SELECT embed_model_add(%s, 'openai', %s, endpoint => 'loop')", (name, dimensions))
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for number, document in enumerate(collection.documents):
            copy.write_row((number, document.title, document.body))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => %s)", (old,))
    work(dsn)
    chosen = random.Random(7).sample(range(len(collection.documents)), TITLES)
    titles = {number: collection.documents[number].title for number in chosen}
    before = found_by(db, titles)
    db.execute("SELECT embed_build('docs', model => %s)", (new,))
    work(dsn)
    if old in known.served:
        provider.fail(status(404), when=lambda call: call.body["model"] == old)
    lines = [
        f"{pair}, {len(collection.documents):,} {collection.what}; MRR@10 of titles by the old model {mrr(before):.3f}"
    ]
    for size in SIZES:
        started = time.monotonic()
        call = "SELECT pairs, recall, overlap FROM embed_bridge('docs', %s, min_recall => 0)"
        pairs, recall, overlap = db.execute(call, (size,)).fetchone()
        seconds = time.monotonic() - started
        found = found_by(db, titles)
        kept = statistics.mean(len({*found[number]} & {*before[number]}) / 10 for number in titles)
        lines.append(
            f"  {pairs:>5} pairs: recall {recall:.2f} overlap {overlap:.2f} in {seconds:.1f} s;"
            f" by title: {kept:.2f} of the old model's ten, MRR@10 {mrr(found):.3f}"
        )
        assert recall >= least
    with capsys.disabled():
        print("", *lines, sep="\n")


@pytest.mark.parametrize("dimensions", [256, 1024, 1536, 3072])
def test_what_a_question_costs_more(dimensions, capsys):
    """One product of the question's vector and the matrix, and its text both ways."""
    from evergreen.storage.bridges import Bridge
    from evergreen.storage.chunks import vector_literal

    chance = np.random.default_rng(0)
    bridge = Bridge(1, 2, "", chance.standard_normal((dimensions, dimensions)).astype(np.float32))
    question = chance.standard_normal(dimensions).astype(np.float32)
    text = vector_literal(question)
    times: dict[str, list[float]] = {"product": [], "with its text": []}
    for _ in range(200):
        started = time.perf_counter()
        _ = question @ bridge.matrix
        times["product"].append(time.perf_counter() - started)
        started = time.perf_counter()
        bridge.map(text)
        times["with its text"].append(time.perf_counter() - started)
    with capsys.disabled():
        print(
            f"\n{dimensions} dimensions:", *(f"{what} {statistics.median(t) * 1e6:.0f} µs" for what, t in times.items())
        )
