"""embed_touch: marks rows by key."""

from evergreen import db
from evergreen.catalog import access
from evergreen.catalog.pipelines import Pipeline
from evergreen.detect import functions
from evergreen.errors import UserError
from evergreen.gate import caller, elevated, entry
from evergreen.prepare import read
from evergreen.queries import load

SQL = load(__file__)


@entry
def embed_touch(pipeline: str | None, keys: list[str | None] | None) -> int:
    """Mark rows to be checked; return how many. Raises 42704, 42501, 22004, 22023, 22P02."""
    role = caller()

    def touch() -> int:
        found = access.owned(pipeline, role)
        if not keys or not all(isinstance(key, str) for key in keys):
            raise UserError(
                "a key to touch is NULL or a list of keys",
                "22004",
                hint="Pass keys: embed_touch('docs', '[42]', '[43]').",
            )
        return _mark(found, [key for key in keys if key is not None])

    return elevated(touch)


def _mark(pipeline: Pipeline, keys: list[str]) -> int:
    try:
        canonical = read.canonical_all(pipeline, keys)
    except db.DatabaseError as error:
        if db.sqlstate(error) != "55P03":
            raise
        # Somebody truncates or alters the source just now. Who touches rows by a trigger of his own must not fail for
        # that: all rows are checked, which costs no call for those that are fresh.
        db.run(SQL.touch_all, pipeline.id)
        return len(keys)
    return db.run(SQL.touch, pipeline.id, canonical, functions.wakes(pipeline))
