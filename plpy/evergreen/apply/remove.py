"""Remove the documents of rows with their chunks; the vectors go to the cache."""

from pathlib import Path

from evergreen import db
from evergreen.apply.cache import cache
from evergreen.catalog import models
from evergreen.queries import Query, load
from evergreen.schedule.claim import Claim

SQL = load(str(Path(__file__).with_name("write.py")))


def remove(claim: Claim, keys: list[str]) -> None:
    """Remove the documents of these keys."""
    if not keys:
        return
    documents = [row["id"] for row in db.rows(SQL.drop_documents, claim.generation.id, keys)]
    gone = db.rows(on_table(SQL.drop_all_chunks, claim), documents)
    cache(claim, {row["hash"]: (row["embedding"], row["key"]) for row in gone})


def on_table(query: Query, claim: Claim) -> Query:
    """Return a query with the generation's table and pgvector's schema in it."""
    return query.on(table=claim.generation.table, schema=models.vector_schema())
