"""Locks the tables of generations to be dropped; our own workers are told to release them."""

import time
from collections.abc import Sequence

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation
from evergreen.db import relations
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load
from evergreen.storage import indexes

SQL = load(__package__, "generation_tables")
# Longer than deadlock_timeout, after which a lock request cancels an autovacuum. Searches of these tables wait this
# long at most; 5 s in all.
_TIMEOUT = "1200ms"
_ATTEMPTS = 4
_RETRY_S = 0.05


def take(generations: Sequence[Generation]) -> None:
    """Lock their tables to the end of the transaction, and cancel index builds on them.

    Raises UserError 55P03: at once if only other sessions than our workers hold one, otherwise after five seconds.
    """
    tables = [g.table for g in generations if relations.oid_of(g.table) is not None]
    if not tables:
        return
    names = ", ".join(tables)
    if with_lock_timeout(lambda: _mark(names), "200ms") is None:
        raise _held(tables)
    indexes.unschedule([g.id for g in generations])
    for _ in range(_ATTEMPTS):
        db.rows(SQL.cancel_index_builds, tables)
        if with_lock_timeout(lambda: _lock(names), _TIMEOUT):
            return
        holders = db.rows(SQL.lock_holders, tables)
        if holders and not any(row["ours"] for row in holders):
            break
        time.sleep(_RETRY_S)  # so that searches do not keep queueing behind us
        db.check_interrupts()
    raise _held(tables)


def _mark(names: str) -> bool:
    """Take the lock that tells a worker with a cancelled index build that the table will be dropped."""
    db.ddl(SQL.lock_for_drop.with_identifiers(tables=names))
    return True


def _lock(names: str) -> bool:
    db.ddl(SQL.lock_table.with_identifiers(tables=names))
    return True


def _held(tables: list[str]) -> UserError:
    by = [f"{row['pid']} ({row['application_name'] or row['usename']})" for row in db.rows(SQL.lock_holders, tables)]
    sessions = f": session {', '.join(by)}" if by else ""
    return UserError(
        f"another session has the vectors in {', '.join(tables)} locked{sessions}",
        "55P03",
        hint="Retry after its transaction ends, or end it with SELECT pg_terminate_backend(...).",
    )
