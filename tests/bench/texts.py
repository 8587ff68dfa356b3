"""English prose for the benchmarks: documents of about 850 characters, cut from texts that are on this machine."""

from itertools import chain, cycle, islice
from typing import Any

import psycopg

from evergreen_host.demo import corpus

LENGTH = 850


def documents(number: int) -> list[str]:
    """Return so many different documents of equal length."""
    prose = [f"{document.title}. {document.body}" for document in corpus.best(number).documents]
    characters = chain.from_iterable(f"{text}\n\n" for text in cycle(prose))
    return [f"{i}. {''.join(islice(characters, LENGTH - 8))}" for i in range(number)]


def fill(db: psycopg.Connection[Any], number: int) -> None:
    """Make a table docs(id, body) of so many documents."""
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL)")
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for row in enumerate(documents(number)):
            copy.write_row(row)
    db.execute("VACUUM ANALYZE docs")
