"""The replication slot and the publication of this database: one of each, for all pipelines."""

from evergreen import db
from evergreen.catalog import options
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.db.locks import set_lock_timeout
from evergreen.db.queries import load
from evergreen.source.table import Source

SQL = load(__package__)


@frozen
class SlotStatus:
    """The slot as it is now; positions are pg_lsn as text."""

    exists: bool
    has_publication: bool
    logged: str | None  # all changes up to here are in the change log, committed
    flushed: str
    confirmed: str | None
    being_created: bool  # by another session
    loss: str | None  # why changes may have been missed

    @property
    def logged_bytes(self) -> int:
        """Bytes of WAL that are in the change log and that the slot still keeps."""
        if self.logged is None or self.confirmed is None:
            return 0
        return max(0, parse_lsn(self.logged) - parse_lsn(self.confirmed))


def parse_lsn(lsn: str) -> int:
    """Return a pg_lsn, as text, as a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Return a number as text of type pg_lsn."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def status() -> SlotStatus:
    """Return the slot's status, with the reason where changes were lost."""
    row = db.one(SQL.slot_status, options.PIPELINE["slot_limit"].default)
    assert row is not None
    being_created = row["logged"] is None and bool(row["active"])
    return SlotStatus(
        row["exists"],
        row["has_publication"],
        row["logged"],
        row["flushed"],
        row["confirmed"],
        being_created,
        None if being_created else _loss(row),
    )


def release() -> None:
    """Release the slot after an error in decoding: the session would hold it even after a rollback."""
    db.rows(SQL.release_slot)


def _loss(row: db.Row) -> str | None:
    name = f"replication slot {row['name']}"
    if row["logged"] is None:
        if row["exists"]:
            return f"{name} was created by another client"
        return f"{name} does not exist: this is a copy of another database" if row["relied_on"] else None
    lag, limit = row["lag"] or 0, row["limit"]
    reasons = {
        f"{name} is gone": not row["exists"],
        f"{name} belongs to another database or plugin": not row["ours"],
        f"the server has removed WAL that {name} needs (max_slot_wal_keep_size)": row["wal_status"] == "lost",
        f"{name} was advanced by another client": row["skipped"],
        "its publication was dropped": not row["has_publication"],
        f"{name} kept {lag >> 20} MB of WAL, and option slot_limit allows {limit >> 20}": lag > limit,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def check_possible(source: Source) -> None:
    """Raise UserError 55000 or 42501 when a table's changes cannot be read from the WAL."""
    server = db.one(SQL.requirements)
    assert server is not None
    if server["wal_level"] != "logical":
        raise UserError(
            f"capture => 'cdc' needs wal_level = logical, but it is {server['wal_level']}",
            "55000",
            hint="ALTER SYSTEM SET wal_level = logical; then restart the server."
            " Each database with such pipelines takes one of max_replication_slots (default 10).",
        )
    if server["taken"] >= server["slots"]:
        raise UserError(
            f"capture => 'cdc' needs a replication slot, and all {server['slots']} are in use",
            "55000",
            hint=f"ALTER SYSTEM SET max_replication_slots = {server['slots'] + 5}; then restart the server;"
            " or drop an unused one: SELECT * FROM pg_replication_slots.",
        )
    if not server["may"]:
        raise UserError(
            f"capture => 'cdc' needs the REPLICATION attribute for the extension's owner \"{server['owner']}\"",
            "42501",
            hint=f"ALTER ROLE {db.identifier(server['owner'])} REPLICATION;",
        )
    obstacle = db.value(SQL.replication_obstacle, source.oid, [c.attnum for c in source.key])
    if obstacle is not None:
        raise UserError(
            f"changes of table {source.qualified} cannot be read from the WAL: {obstacle}",
            "55000",
            hint="ALTER TABLE … REPLICA IDENTITY DEFAULT (or FULL), and SET LOGGED, on that table;"
            " or use capture => 'trigger'.",
        )


def create_publication() -> None:
    """Create the publication, without tables."""
    db.ddl(SQL.create_publication)
    db.ddl(SQL.comment_publication)


def create(lock_timeout: str) -> None:
    """Create the slot; raises DatabaseError 55P03 when running transactions outlast the lock timeout."""
    set_lock_timeout(lock_timeout)
    db.value(SQL.create_slot)
    db.run(SQL.record_slot)


def publish(source: Source) -> None:
    """Add a table to the publication, unless it is a member."""
    if not db.value(SQL.is_published, source.oid):
        db.ddl(SQL.publish.with_identifiers(table=source.qualified))


def unpublish_unused(source: int | None = None) -> None:
    """Remove tables that no pipeline needs from the publication, one or all."""
    for row in db.rows(SQL.unused_tables):
        if source in {None, row["table_oid"]}:
            db.ddl(SQL.unpublish.with_identifiers(table=row["table_name"]))
