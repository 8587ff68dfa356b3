"""Known items: a document's title, its title without its name, or a sentence of its body must find that document.

MRR@10 (mean of 1 / place, 0 beyond ten) of each mode; hybrid has to be as good as the better of the other two, on every
kind of question. The demo's questions in other words than the documents' are shown with it.
"""

import random
import re
import statistics
from collections import defaultdict

import psycopg
import pytest

from evergreen_host.demo import corpus

ROWS = 15_000
QUESTIONS = 250  # of each kind
WORDS = range(6, 31)  # of a sentence
SPARE = 0.005  # two questions in each hundred may be at the second place instead of the third
MODES = ("vector", "keyword", "hybrid")

pytestmark = pytest.mark.bench


def questions(collection: corpus.Corpus) -> list[tuple[str, str, int]]:
    """Kind, question and the number of the document that it is about."""
    chance = random.Random(7)
    found: list[tuple[str, str, int]] = []
    for number in chance.sample(range(len(collection.documents)), min(QUESTIONS, len(collection.documents))):
        document = collection.documents[number]
        sentences = re.split(r"(?<=[.!?])\s+|\n\n", document.body)
        known = [sentence for sentence in sentences if len(sentence.split()) in WORDS]
        found.append(("title", document.title, number))
        found.append(("title without name", re.sub(r"^\S+: ", "", document.title), number))
        if known:
            found.append(("sentence", chance.choice(known), number))
    names = {document.name: number for number, document in enumerate(collection.documents)}
    return found + [("other words", question, names[name]) for question, name in collection.questions.items()]


def test_known_items(db, dsn, capsys):
    collection = corpus.best(ROWS)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for number, document in enumerate(collection.documents):
            copy.write_row((number, document.title, document.body))
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}')")
    with psycopg.connect(dsn, autocommit=True) as worker:
        for _ in range(2):  # the second one makes the indexes
            worker.execute("CALL embed_work(until_empty => true)")
    found: dict[str, dict[str, list[float]]] = {mode: defaultdict(list) for mode in MODES}
    for kind, question, number in questions(collection):
        for mode in MODES:
            rows = db.execute("SELECT key FROM embed_search('docs', %s, mode => %s)", (question, mode)).fetchall()
            keys = [key[0] for (key,) in rows]
            found[mode][kind].append(1 / (keys.index(number) + 1) if number in keys else 0.0)
    means = {mode: {kind: statistics.mean(ranks) for kind, ranks in found[mode].items()} for mode in MODES}
    with capsys.disabled():
        print(f"\nMRR@10 of known items, {len(collection.documents):,} {collection.what}")
        for mode in MODES:
            print(f"  {mode:<10}", *(f"{kind} {mean:.3f}  " for kind, mean in means[mode].items()))
    for kind in ("title", "title without name", "sentence"):
        assert means["hybrid"][kind] >= max(means["vector"][kind], means["keyword"][kind]) - SPARE
