"""A claim of embed_claim in later calls: finds it and its texts by token, and closes it."""

from dataclasses import dataclass

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load

SQL = load(__package__)
_LOCK_TIMEOUT = "5s"  # for another call with the same token
_HASH_DIGITS = 16


@dataclass(frozen=True)
class ExternalClaim:
    """A claim that embed_claim made."""

    token: int
    pipeline: Pipeline
    generation: Generation
    is_old: bool = False  # a third of the lease is over


@dataclass(frozen=True)
class Text:
    """A text that was handed out: the rows that need it, its tokens, and whether its vector came."""

    keys: tuple[str, ...]
    tokens: int
    received: bool


def find(pipeline: Pipeline, token: int | None) -> ExternalClaim | None:
    """Find a claim and keep other calls for it away; None, with a NOTICE, when it is over and nothing of it is left.

    Raises UserError 42704, 22023, 55P03.
    """
    # One at a time: each of two calls that bring half of a document would miss the other half.
    rows = with_lock_timeout(lambda: db.rows(SQL.hold_lease, token), _LOCK_TIMEOUT)
    if rows is None:
        raise UserError(
            f"claim {token} is in use by another session", "55P03", hint="Try again when its transaction is over."
        )
    if rows and rows[0]["is_outside"]:
        return _external_claim(pipeline, token, rows[0])
    if not rows and db.value(SQL.was_issued, token):
        db.notice(f"claim {token} is over and nothing of it is left to do")
        return None
    raise UserError(
        f"there is no claim {'NULL' if token is None else token}",
        "42704",
        hint="Pass the token that embed_claim returned with the texts.",
    )


def _external_claim(pipeline: Pipeline, token: int | None, row: db.Row) -> ExternalClaim | None:
    generation = next((g for g in pipeline.generations if g.id == row["generation"]), None)
    if generation is None and not db.value(SQL.is_there, row["generation"]):  # it went while the claim was made
        db.notice(f"claim {token} is over: the generation that it is of was retired")
        return None
    if generation is None or token is None:
        raise UserError(
            f'claim {token} is not of pipeline "{pipeline.name}"', hint="Name the pipeline that it was claimed from."
        )
    return ExternalClaim(token, pipeline, generation, bool(row["is_old"]))


def texts(claim: ExternalClaim, hashes: list[bytes]) -> dict[bytes, Text]:
    """Return what was handed out under these hashes; raises 22023 for one that was not."""
    found = {row["hash"]: Text(tuple(row["keys"]), row["tokens"], row["received"]) for row in _rows(claim, hashes)}
    unknown = [one for one in hashes if one not in found]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(hashes)} hashes were not handed out by claim {claim.token}, among them"
            f" \\x{unknown[0].hex()[:_HASH_DIGITS]}…",
            hint="Pass hashes as embed_claim returned them with this token.",
        )
    return found


def _rows(claim: ExternalClaim, hashes: list[bytes]) -> list[db.Row]:
    return db.rows(SQL.texts, claim.token, hashes)


def open_texts(claim: ExternalClaim) -> dict[bytes, Text]:
    """Return the texts whose vectors did not come yet."""
    return {
        row["hash"]: Text(tuple(row["keys"]), row["tokens"], received=False) for row in db.rows(SQL.open, claim.token)
    }


def close(claim: ExternalClaim) -> None:
    """End a claim if nothing of it is open; rows that it still has are free for others at once."""
    if not db.value(SQL.is_open, claim.token):
        db.run(SQL.expire if db.value(SQL.has_jobs, claim.token, claim.generation.id) else SQL.drop, claim.token)
