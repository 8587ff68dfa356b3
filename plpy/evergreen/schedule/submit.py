"""embed_submit: vectors from outside; rows that have all of theirs are written, the other vectors are kept."""

import numpy as np
import orjson

from evergreen import alarm, db
from evergreen.apply import reuse, usage
from evergreen.apply.usage import Alone, Saved
from evergreen.apply.vectors import Known
from evergreen.apply.write import Result, apply, drop_kept
from evergreen.detect import follow
from evergreen.errors import UserError
from evergreen.gate import elevated, entry
from evergreen.model import budget as budgets
from evergreen.model.order import LIVE, Spent
from evergreen.model.registry import provider
from evergreen.model.verdict import flaw
from evergreen.prepare.documents import Document, Prepared, prepare
from evergreen.schedule import arguments, outside
from evergreen.schedule import claim as claims
from evergreen.schedule.batch import budget
from evergreen.schedule.claim import Claim
from evergreen.schedule.outside import Outside, Text
from evergreen.schedule.recursion import running

_PATIENCE = 5.0  # seconds to wait for the source to be read

#: Vectors as pgvector writes them, by hash of their text.
Given = dict[bytes, str]


@entry
def embed_submit(
    pipeline: str | None,
    token: int | None,
    hashes: list[bytes | None] | None,
    vectors: list[str | None] | None,
    tokens: int | None,
) -> int:
    """Take vectors in and return the rows brought up to date; raises 25001, 22004, 22023, 2202E, 42704, 55P03."""
    arguments.check_isolation("embed_submit")
    given = _paired(_flat("hashes", hashes), _flat("vectors", vectors))
    if tokens is not None and tokens < 0:
        raise UserError(f"tokens must not be negative, but is {tokens}", hint="Leave it out to have them estimated.")

    def submit() -> int:
        found = outside.find(arguments.named(pipeline), token)
        if found is None:
            return 0
        with alarm.patience(_PATIENCE), db.planning.by_index():
            return _Submission(found, given, tokens).apply()

    with running("embed_submit"):
        return elevated(submit)


def _flat(name: str, array: list[object | None] | list[bytes | None] | list[str | None] | None) -> list[object]:
    if array is None or any(one is None for one in array):
        raise UserError(f"{name} is NULL, or has a NULL in it", "22004", hint="Pass one vector for each hash.")
    if any(isinstance(one, list) for one in array):
        raise UserError(f"{name} must have one dimension", "2202E", hint="Pass one vector for each hash.")
    return [one for one in array if one is not None]


def _paired(hashes: list[object], vectors: list[object]) -> Given:
    if len(hashes) != len(vectors):
        raise UserError(
            f"there are {len(hashes)} hashes and {len(vectors)} vectors", "2202E", hint="Pass one vector for each hash."
        )
    given: Given = {}
    for key, vector in zip(hashes, vectors, strict=True):
        assert isinstance(key, bytes)
        assert isinstance(vector, str)
        if given.setdefault(key, vector) != vector:
            raise UserError(
                f"hash \\x{key.hex()} comes twice, with different vectors", hint="Pass one vector for each hash."
            )
    return given


class _Submission:
    """Vectors for a claim. The rows are read anew, under their jobs' locks: what is written is what they are now."""

    def __init__(self, claim: Outside, given: Given, tokens: int | None) -> None:
        self._outside = claim
        self._texts = outside.texts(claim, [*given])
        self._vectors = _parsed(claim, given)
        self._billed = tokens

    def apply(self) -> int:
        """Write what is complete, keep the rest; return the number of rows brought up to date."""
        claimed = self._outside
        new = [text for text in self._texts.values() if not text.came]
        db.run(outside.SQL.arrive, claimed.token, [*self._texts])
        still_open = outside.open_texts(claimed)
        result = self._result()
        self._look_up(result)
        self._put_back_changed(result, still_open)
        done = apply(result)
        written = [h for d in result.prepared.documents if d.key in done for h, _ in d.chunks]
        drop_kept(result, [key for key in written if key not in self._texts or self._texts[key].came])
        reuse.land(claimed.generation, [*self._texts], claimed.token)
        self._account(new)
        self._renew(still_open)
        outside.close(claimed)
        return len(done)

    def _result(self) -> Result:
        claimed = self._outside
        now = db.one(outside.SQL.now, claimed.generation.id)
        assert now is not None
        readable = follow.check(claimed.pipeline)
        pipeline = readable or claimed.pipeline
        generation = next((g for g in pipeline.generations if g.id == claimed.generation.id), claimed.generation)
        claim = Claim(claimed.token, pipeline, generation, LIVE, now["round"], leased=True, at=now["at"])
        owners = {key: text.keys[0] for key, text in self._texts.items()}
        if readable is None:  # the source cannot be read now
            return Result(claim, Prepared(), {**self._vectors}, {*self._vectors}, owners=owners)
        keys = [*dict.fromkeys(key for text in self._texts.values() for key in text.keys)]
        claims.add(claim, db.rows(outside.SQL.hold_jobs, generation.id, keys, claim.token))
        prepared = prepare(claim.pipeline, generation, [*claim.jobs])
        return Result(claim, prepared, {**self._vectors}, {*self._vectors}, owners=owners)

    def _look_up(self, result: Result) -> None:
        """Find the vectors that came earlier, or are live elsewhere."""
        needed = {key for d in result.prepared.documents for key, _ in d.chunks if key not in result.vectors}
        if needed:
            result.vectors.update(reuse.known(result.claim.generation, [*needed]))

    def _put_back_changed(self, result: Result, still_open: dict[bytes, Text]) -> None:
        """Put back the rows that need another text now than was handed out, and those there was no room to read."""

        def is_waiting(document: Document) -> bool:
            return all(key in result.vectors or key in still_open for key, _ in document.chunks)

        keys = [*result.prepared.unread, *(d.key for d in result.prepared.documents if not is_waiting(d))]
        claims.put_back(result.claim, keys)
        result.postponed.update(keys)

    def _account(self, new: list[Text]) -> None:
        if not new:
            return
        generation = self._outside.generation
        estimated = sum(text.tokens for text in new)
        billed = estimated if self._billed is None else self._billed
        budgets.correct(budget(self._outside.pipeline), generation.model, billed - estimated)
        spent = Spent(calls=1, texts=len(new), tokens=billed)
        usage.record(
            generation,
            spent,
            Saved(),
            Alone(texts=len(new), tokens=estimated),
            free=provider(generation.model.provider).free,
        )

    def _renew(self, still_open: dict[bytes, Text]) -> None:
        """Put off the end of the claim; not each time, as that writes a row for each row and text that is left."""
        claimed = self._outside
        if not claimed.is_old:
            return
        keys = [*dict.fromkeys(key for text in still_open.values() for key in text.keys)]
        claims.renew_lease(claimed.token, claimed.generation, keys, [*still_open])


def _parsed(claim: Outside, given: Given) -> dict[bytes, Known]:
    """Read the vectors; raises 22023 for another number of dimensions, and for what no distance can be computed to."""
    model = claim.generation.model
    zeros = provider(model.provider).zeros
    found: dict[bytes, Known] = {}
    for key, text in given.items():
        if text.count(",") + 1 != model.dimensions:
            raise UserError(
                f'the vector of hash \\x{key.hex()} has {text.count(",") + 1} dimensions, and model "{model.name}" of'
                f" claim {claim.token} has {model.dimensions}",
                hint="embed_claim says with each text which model it is for.",
            )
        vector = np.array(orjson.loads(text), dtype=np.float32)
        if wrong := flaw(vector, zeros=zeros):
            raise UserError(
                f'model "{model.name}" gave {wrong} for the text of hash \\x{key.hex()}',
                hint=f"SELECT embed_release({db.literal(claim.pipeline.name)}, {claim.token},"
                f" ARRAY['\\x{key.hex()}']::bytea[], 'bad vector'); and submit the others.",
            )
        found[key] = vector
    return found
