"""embed_import_vectors: puts vectors made elsewhere into the cache, where the next drain finds them by their text."""

from typing import TYPE_CHECKING

from evergreen import db
from evergreen.capture import ddl_sync
from evergreen.catalog import models, options, pipelines
from evergreen.core.errors import RejectedError, UserError
from evergreen.core.frozen import frozen
from evergreen.core.lazy import lazy
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.core.text import format_number
from evergreen.db import privileges
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.providers.registry import provider
from evergreen.embedding.vector_checks import vector_problem
from evergreen.prepare import documents
from evergreen.source import reader
from evergreen.storage import vector_cache

if TYPE_CHECKING:
    import numpy as np
    import orjson
else:
    np, orjson = lazy("numpy"), lazy("orjson")

SQL = load(__package__)
_HINT = "Pass the texts as they were sent to the model, a vector for each and, where they are known, the rows' keys."


@frozen
class _Given:
    """Texts with their vectors, as pgvector writes them, and with the keys of their rows."""

    texts: list[str]
    vectors: list[str]
    keys: list[str] | None


@sql_entry
def embed_import_vectors(
    pipeline: str | None,
    texts: list[str | None] | None,
    vectors: list[str | None] | None,
    keys: list[str | None] | None,
) -> int:
    """Cache vectors by the texts they were made from; return how many of the texts need no call now.

    ``vectors`` are written as pgvector writes them, one for each text; ``keys`` are JSON arrays, one for each text.

    Raises 25001, 22004, 2202E, 22023, 22P02, 42704, 42501, 55000, 55P03.
    """
    privileges.check_isolation("embed_import_vectors")
    role = caller()
    given = _paired(texts, vectors, keys)

    def store() -> int:
        named = pipelines.owned(pipeline, role)
        found = ddl_sync.follow_ddl(named)
        if found is None:
            raise UserError(
                f'the source of pipeline "{named.name}" cannot be read',
                "55000",
                hint="SELECT last_error FROM embed_status;",
            )
        _check_model(found)
        _check_dimensions(found.active, given.vectors)
        return _keep(found, found.active, _usable(found.active, given))

    return as_extension_owner(store)


def _paired(texts: list[str | None] | None, vectors: list[str | None] | None, keys: list[str | None] | None) -> _Given:
    paired_texts, paired_vectors = options.paired_arrays(("texts", "vectors"), texts, vectors, _HINT)
    if keys is None:
        return _Given(paired_texts, paired_vectors, None)
    return _Given(paired_texts, paired_vectors, options.paired_arrays(("texts", "keys"), texts, keys, _HINT)[1])


def _check_model(pipeline: Pipeline) -> None:
    """Raise 55000 while another model is served than the vectors in the table are of: these may be of either."""
    model = pipeline.active.model
    if options.effective(pipeline.options, "on_model_change") == "warn":
        return
    if not model.is_served or not models.is_in_epoch(model, model.served.epoch):
        raise UserError(
            f'model "{model.name}" of pipeline "{pipeline.name}" changed',
            "55000",
            hint=f"SELECT embed_build({db.literal(pipeline.name)}); begins a generation of what is served now.",
        )


def _check_dimensions(generation: Generation, vectors: list[str]) -> None:
    """Raise unless every vector has the model's dimensions; their type has checked that the numbers are finite."""
    model = generation.model
    for place, vector in enumerate(vectors, 1):
        dimensions = vector.count(",") + 1
        if dimensions != model.dimensions:
            raise UserError(
                f'vector {place} has {dimensions} dimensions, and model "{model.name}" has {model.dimensions}',
                hint="Vectors of another model cannot be used: its texts have to be embedded again.",
            )


def _usable(generation: Generation, given: _Given) -> _Given:
    """Leave out vectors that no search could compare: their texts are embedded again."""
    zeros = provider(generation.model.provider).zeros
    read = (np.array(orjson.loads(vector), dtype=np.float32) for vector in given.vectors)
    usable = [place for place, vector in enumerate(read) if vector_problem(vector, zeros=zeros) is None]
    if len(usable) == len(given.vectors):
        return given
    left_out = len(given.vectors) - len(usable)
    count = f"{format_number(left_out)} of {format_number(len(given.vectors))}"
    db.notice(f"left out {count} vectors: all zeros, or of no usable length")
    keys = [given.keys[place] for place in usable] if given.keys is not None else None
    return _Given([given.texts[place] for place in usable], [given.vectors[place] for place in usable], keys)


def _keep(pipeline: Pipeline, generation: Generation, given: _Given) -> int:
    keys = reader.canonical_all(pipeline, given.keys) if given.keys is not None else [None] * len(given.texts)
    kept = _hashed(pipeline, generation, given.texts)
    live = {
        row["hash"]
        for row in db.rows(SQL.texts_in_generation.with_identifiers(table=generation.table), list(kept.values()))
    }
    new = {place: text for place, text in kept.items() if text not in live}
    vectors, rows = [given.vectors[place] for place in new], [keys[place] for place in new]
    vector_cache.put(pipeline, generation, list(new.values()), vectors, rows)
    there = live | {row["hash"] for row in db.rows(SQL.texts_in_cache, generation.model.id, list(new.values()))}
    blank = sum(text.isspace() or not text for text in given.texts)
    return blank + sum(text in there for text in kept.values())


def _hashed(pipeline: Pipeline, generation: Generation, texts: list[str]) -> dict[int, bytes]:
    """Return the hash of each text that is sent unchanged, by its position.

    A text that the model's limits would cut or refuse has no hash: no vector can belong to it.
    """
    send = documents.text_preparer(pipeline, generation)
    found: dict[int, bytes] = {}
    for place, text in enumerate(texts):
        try:
            hashed, sent = send(text)
        except RejectedError:
            continue
        if sent == text and not text.isspace() and text:
            found[place] = hashed
    return found
