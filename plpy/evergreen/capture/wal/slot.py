"""The replication slot and the publication of this database: one of each, for all pipelines."""

from dataclasses import dataclass

from evergreen import db
from evergreen.catalog import options
from evergreen.core.errors import UserError
from evergreen.db.queries import load
from evergreen.source.table import Source

SQL = load(__package__)
NEVER = "0/0"


@dataclass(frozen=True)
class SlotStatus:
    """The slot as it is; positions are printed pg_lsn."""

    there: bool
    published: bool  # is there a publication
    read: str | None  # up to where all is logged, and that committed
    written: str
    confirmed: str | None
    made: bool  # just now, by another session
    lost: str | None  # why what was captured up to now does not count


def number(lsn: str) -> int:
    """A printed pg_lsn as a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def printed(lsn: int) -> str:
    """A pg_lsn as Postgres prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def look() -> SlotStatus:
    """See whether the slot is there and has missed nothing."""
    row = db.one(SQL.look, options.PIPELINE["slot_limit"].default)
    assert row is not None
    made = row["read"] is None and bool(row["active"])
    return SlotStatus(
        row["there"],
        row["published"],
        row["read"],
        row["written"],
        row["confirmed"],
        made,
        None if made else _lost(row),
    )


def release() -> None:
    """Let go of the slot after an error in decoding: it would stay this session's, whatever becomes of the error."""
    db.rows(SQL.release)


def _lost(row: db.Row) -> str | None:
    name = f"replication slot {row['name']}"
    if row["read"] is None:
        if row["there"]:
            return f"{name} was not read from its beginning"
        return f"{name} was never there: this is a copy of another database" if row["relied_on"] else None
    lag, most = row["lag"] or 0, row["most"]
    reasons = {
        f"{name} is gone": not row["there"],
        f"{name} is somebody else's": not row["ours"],
        f"the server has removed WAL that {name} needs (max_slot_wal_keep_size)": row["wal_status"] == "lost",
        f"{name} was moved on by somebody else": row["skipped"],
        "its publication was dropped": not row["published"],
        f"{name} kept {lag >> 20} MB of WAL, and option slot_limit allows {most >> 20}": lag > most,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def check_possible(source: Source) -> None:
    """Raise UserError 55000 or 42501 where changes of a table cannot be read from the WAL, and say what to do."""
    here = db.one(SQL.possible)
    assert here is not None
    if here["wal_level"] != "logical":
        raise UserError(
            f"capture => 'cdc' needs wal_level = logical, and here it is {here['wal_level']}",
            "55000",
            hint="ALTER SYSTEM SET wal_level = logical; then restart the server."
            " max_replication_slots must leave one for each database that uses it (10 is the default).",
        )
    if here["taken"] >= here["slots"]:
        raise UserError(
            f"capture => 'cdc' needs a replication slot, and all {here['slots']} are in use",
            "55000",
            hint=f"ALTER SYSTEM SET max_replication_slots = {here['slots'] + 5}; then restart the server;"
            " or drop one that nobody needs: SELECT * FROM pg_replication_slots.",
        )
    if not here["may"]:
        raise UserError(
            f"capture => 'cdc' needs that the extension's owner \"{here['owner']}\" may use replication slots",
            "42501",
            hint=f"ALTER ROLE {db.identifier(here['owner'])} REPLICATION;",
        )
    unfit = db.value(SQL.unfit, source.oid, [c.attnum for c in source.key])
    if unfit is not None:
        raise UserError(
            f"changes of table {source.qualified} cannot be read from the WAL: {unfit}",
            "55000",
            hint="ALTER TABLE … REPLICA IDENTITY DEFAULT (or FULL), and SET LOGGED, on the table that is named;"
            " or use capture => 'trigger'.",
        )


def create_publication() -> None:
    """Make the publication, empty."""
    db.ddl(SQL.create_publication)
    db.ddl(SQL.comment_publication)


def create(patience: str) -> None:
    """Make the slot, waiting for running transactions so long; raises DatabaseError 55P03 when that was not enough."""
    db.value(SQL.patience, patience)
    db.value(SQL.create_slot)
    db.run(SQL.adopt_slot)


def publish(source: Source) -> None:
    """Put a table in the publication, if it is not there."""
    if not db.value(SQL.is_published, source.oid):
        db.ddl(SQL.publish.on(table=source.qualified))


def unpublish_unused(source: int | None = None) -> bool:
    """Take tables out of the publication that no pipeline needs there: one, or all; True when there were any."""
    found = [row for row in db.rows(SQL.published_in_vain) if source in {None, row["table_oid"]}]
    for row in found:
        db.ddl(SQL.unpublish.on(table=row["table_name"]))
    return bool(found)
