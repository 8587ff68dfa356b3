"""embed_batch_cancel: gives the texts of a batch back to ordinary work."""

from evergreen import db
from evergreen.catalog import pipelines
from evergreen.core.errors import UserError
from evergreen.core.text import pluralize
from evergreen.db import privileges
from evergreen.db.locks import with_lock_timeout
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.queue import claims
from evergreen.storage import batch_spool

_LOCK_TIMEOUT = "2s"  # a worker may be filing results
_HINT = "SELECT id, pipeline, state FROM embed_batches;"


@sql_entry
def embed_batch_cancel(batch: int | None) -> int:
    """Cancel a batch; return how many texts had no vector. Raises 25001, 42704, 55000, 55P03."""
    privileges.check_isolation("embed_batch_cancel")
    role = caller()

    def cancel() -> int:
        left = with_lock_timeout(lambda: _cancel(batch, role), _LOCK_TIMEOUT)
        if left is None:
            raise UserError(f"batch {batch} is held by another session", "55P03", hint="Try again in a moment.")
        db.notice(f"{pluralize(left, 'text')} of batch {batch} go by requests; what the provider has done is billed")
        return left

    return as_extension_owner(cancel)


def _cancel(batch: int | None, role: str) -> int:
    row = batch_spool.lock(batch) if batch is not None else None
    pipeline = pipelines.by_id(row["pipeline"]) if row is not None else None
    if row is None or pipeline is None or not pipelines.may_own(role, pipeline.owner):
        raise UserError(
            f"there is no batch {'NULL' if batch is None else batch} of a pipeline that you administer",
            "42704",
            hint=_HINT,
        )
    if row["is_over"]:
        raise UserError(f"batch {batch} is over: it is {row['state']}", "55000", hint=_HINT)
    left = batch_spool.give_up(row["id"], "cancelled", "cancelled by embed_batch_cancel()")
    claims.wake_batch(row["id"])
    return left
