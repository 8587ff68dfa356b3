"""The claims of embed_claim in embed_submit and embed_release: found by token, with their texts, and closed.

An external claim is a row of embed.lease with an ``external_interval``; its texts are rows of embed.claimed_text, each
with the keys of the rows that need it. The claim is closed when all its vectors were submitted or released.
"""

from evergreen import db
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation, Pipeline
from evergreen.db.locks import with_lock_timeout
from evergreen.db.queries import load

SQL = load(__package__)
_LOCK_TIMEOUT = "5s"  # for another call with the same token
_HASH_DIGITS = 16


@frozen
class ExternalClaim:
    """A claim made by embed_claim."""

    token: int
    pipeline: Pipeline
    generation: Generation
    is_old: bool = False  # a third of the lease has passed
    epoch: int | None = None  # of the model's watch, when it was made; None: before there was one


@frozen
class Text:
    """A claimed text: the rows that need it, its tokens, and whether its vector was received."""

    keys: tuple[str, ...]
    tokens: int
    received: bool


def find(pipeline: Pipeline, token: int | None) -> ExternalClaim | None:
    """Find and lock a claim; None, with a NOTICE, if it has ended and nothing of it is left.

    Raises UserError 42704, 22023, 55P03.
    """
    # One at a time: two calls with half of a document each would both miss the other half.
    rows = with_lock_timeout(lambda: db.rows(SQL.lock_lease, token), _LOCK_TIMEOUT)
    if rows is None:
        raise UserError(
            f"claim {token} is in use by another session", "55P03", hint="Try again when its transaction is over."
        )
    if rows and rows[0]["is_external"]:
        return _external_claim(pipeline, token, rows[0])
    if not rows and db.value(SQL.is_token_issued, token):
        db.notice(f"claim {token} has ended and nothing of it is left to do")
        return None
    raise UserError(
        f"there is no claim {'NULL' if token is None else token}",
        "42704",
        hint="Pass the token that embed_claim returned with the texts.",
    )


def _external_claim(pipeline: Pipeline, token: int | None, row: db.Row) -> ExternalClaim | None:
    generation = next((g for g in pipeline.generations if g.id == row["generation"]), None)
    if generation is None and not db.value(SQL.generation_exists, row["generation"]):  # it was retired during the claim
        db.notice(f"claim {token} has ended: its generation was retired")
        return None
    if generation is None or token is None:
        raise UserError(
            f'claim {token} does not belong to pipeline "{pipeline.name}"',
            hint="Pass the pipeline that it was claimed from.",
        )
    return ExternalClaim(token, pipeline, generation, bool(row["is_old"]), row["epoch"])


def texts(claim: ExternalClaim, hashes: list[bytes]) -> dict[bytes, Text]:
    """Return the claimed texts of these hashes; raises 22023 for a hash of no claimed text."""
    rows = db.rows(SQL.claimed_texts, claim.token, hashes)
    found = {row["hash"]: Text(tuple(row["keys"]), row["tokens"], row["received"]) for row in rows}
    unknown = [one for one in hashes if one not in found]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(hashes)} hashes do not belong to claim {claim.token}, such as"
            f" \\x{unknown[0].hex()[:_HASH_DIGITS]}…",
            hint="Pass hashes as embed_claim returned them with this token.",
        )
    return found


def open_texts(claim: ExternalClaim) -> dict[bytes, Text]:
    """Return the texts whose vectors were not received yet."""
    return {
        row["hash"]: Text(tuple(row["keys"]), row["tokens"], received=False)
        for row in db.rows(SQL.open_texts, claim.token)
    }


def close(claim: ExternalClaim) -> None:
    """End a claim without open texts; its remaining rows can be claimed at once."""
    if not db.value(SQL.has_open_texts, claim.token):
        db.run(
            SQL.expire_lease
            if db.value(SQL.has_unfinished_jobs, claim.token, claim.generation.id)
            else SQL.delete_claim,
            claim.token,
        )
