"""Remove what is stored of rows; the vectors go to the cache."""

from pathlib import Path

from evergreen import db
from evergreen.apply.cache import cache
from evergreen.catalog import models
from evergreen.queries import Query, load
from evergreen.schedule.claim import Claim

SQL = load(str(Path(__file__).with_name("write.py")))


def remove(claim: Claim, keys: list[str]) -> None:
    """Remove the documents of rows that are gone."""
    if keys:
        _drop_chunks(claim, db.rows(SQL.drop_documents, claim.generation.id, keys))


def empty(claim: Claim, keys: list[str]) -> None:
    """Remove the chunks of rows that are given up: they are of an earlier text, and no later one is on its way."""
    if keys:
        _drop_chunks(claim, db.rows(SQL.empty_documents, claim.generation.id, keys))


def _drop_chunks(claim: Claim, documents: list[db.Row]) -> None:
    gone = db.rows(on_table(SQL.drop_all_chunks, claim), [row["id"] for row in documents])
    cache(claim, {row["hash"]: (row["embedding"], row["key"]) for row in gone}, replaced=True)


def on_table(query: Query, claim: Claim) -> Query:
    """Return a query with the generation's table and pgvector's schema in it."""
    return query.on(table=claim.generation.table, schema=models.vector_schema())
