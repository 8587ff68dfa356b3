"""embed_release: rows that compute outside the database gives back, or failed."""

from evergreen import db
from evergreen.apply import reuse
from evergreen.apply.failures import Failures
from evergreen.errors import SuspectError, UserError
from evergreen.gate import elevated, entry
from evergreen.model import budget as budgets
from evergreen.model.order import LIVE
from evergreen.schedule import arguments, outside
from evergreen.schedule import claim as claims
from evergreen.schedule.batch import budget
from evergreen.schedule.claim import Claim
from evergreen.schedule.outside import Outside, Text

_LONGEST = 2000  # characters of an error


@entry
def embed_release(pipeline: str | None, token: int | None, hashes: list[bytes | None] | None, error: str | None) -> int:
    """Give back the rows of some texts, or of all; return how many. Raises 25001, 22004, 22023, 42704, 55P03."""
    arguments.check_isolation("embed_release")
    if hashes is not None and not all(isinstance(one, bytes) for one in hashes):
        raise UserError("hashes has a NULL or a list in it", "22004", hint="Leave it out to give back all.")

    def release() -> int:
        found = outside.find(arguments.named(pipeline), token)
        if found is None:
            return 0
        chosen = None if hashes is None else [one for one in hashes if one is not None]
        return _release(found, chosen, error)

    return elevated(release)


def _release(claimed: Outside, hashes: list[bytes] | None, error: str | None) -> int:
    texts = _open(claimed, hashes)
    claim = Claim(claimed.token, claimed.pipeline, claimed.generation, LIVE, 0, leased=True)
    keys = [*dict.fromkeys(key for text in texts.values() for key in text.keys)]
    claims.add(claim, db.rows(outside.SQL.hold_jobs, claimed.generation.id, keys, claimed.token))
    if error is None:
        claims.put_back(claim, [*claim.jobs])
    else:
        # As a text that a model refused when it was alone: it may be the text, it may pass.
        Failures(claim).record(dict.fromkeys(claim.jobs, SuspectError(error[:_LONGEST])))
    reuse.land(claimed.generation, [*texts], claimed.token)
    unspent = sum(text.tokens for text in texts.values())
    budgets.correct(budget(claimed.pipeline), claimed.generation.model, -unspent)
    db.run(outside.SQL.take_back, claimed.token, [*texts])
    outside.close(claimed)
    return len(claim.jobs)


def _open(claimed: Outside, hashes: list[bytes] | None) -> dict[bytes, Text]:
    """Return the texts that are meant and whose vectors did not come: those need nobody any more."""
    if hashes is None:
        return outside.open_texts(claimed)
    return {key: text for key, text in outside.texts(claimed, hashes).items() if not text.came}
