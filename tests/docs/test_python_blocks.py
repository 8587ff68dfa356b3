"""Every Python block of the README and of docs/ runs as written, against a database with pending work."""

import numpy as np
import psycopg
import pytest

from tests.docs.pages import PAGES, ROOT, blocks


class Model:
    """What a reader has as `model`: vectors of the pipeline's size, and now and then an error."""

    def __init__(self):
        self.texts = []

    def encode(self, texts):
        self.texts += texts
        if len(self.texts) == len(texts):
            raise RuntimeError("out of memory")
        return np.ones((len(texts), 256), np.float32)


#: Pages whose Python tests/docs/test_client_pages.py runs.
ELSEWHERE = ROOT / "docs" / "how-to" / "clients"
SEARCH = ROOT / "docs" / "how-to" / "search-application.md"
BLOCKS = [block for page in PAGES if page.parent != ELSEWHERE and page != SEARCH for block in blocks(page, "python")]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_it_runs_and_leaves_nothing_to_do(block, reader):
    reader.execute("UPDATE docs SET body = body || ' Edited.'")
    model = Model()
    namespace = {"psycopg": psycopg, "dsn": reader.info.dsn, "model": model}
    exec(compile(block.code, str(block), "exec"), namespace)
    assert len(model.texts) == 2
    reader.execute("SELECT embed_retry('docs')")
    exec(compile(block.code, str(block), "exec"), namespace)
    assert reader.execute("SELECT rows FROM embed_verify('docs') WHERE state = 'fresh'").fetchone() == (2,)


def test_a_search_returns_typed_rows(reader):
    reader.execute("SELECT embed_drain()")
    (block,) = blocks(SEARCH, "python")
    namespace = {"psycopg": psycopg}
    exec(compile(block.code, str(block), "exec"), namespace)
    first, *_ = namespace["search"](reader, "I forgot my password")
    assert first[:2] == (1, "Passwords")
