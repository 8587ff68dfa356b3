"""Rate limits as arithmetic: a token bucket kept as one number, the time at which it will be full again.

That is the generic cell rate algorithm (ITU-T I.371). Times are microseconds since 1970, as in the shared state.
A limit is meant for any sixty seconds, so what may go at once (the burst) is taken off the rate.
"""

import math
from dataclasses import dataclass, replace

from evergreen.model.provider import Limits
from evergreen.model.spec import Endpoint

MINUTE = 60_000_000
_BURST = 1 / 30  # of a minute's quota: what may go at once

_TOKENS_A_ROW = 200
_FEW = 50  # rows: where a request holds less, a claim has several


def fitting(limits: Limits, endpoint: Endpoint | None) -> Limits:
    """Return limits of a request that a bucket of tokens has room for when it is full."""
    if endpoint is None or "tokens_per_minute" not in endpoint.options:
        return limits
    most = max(1, int(endpoint.options["tokens_per_minute"] * _BURST))
    return replace(limits, request_tokens=min(limits.request_tokens or most, most))


def rows_worth_claiming(limits: Limits, endpoint: Endpoint | None, most: int) -> int:
    """Return how many rows to claim.

    What one request holds, so that its answer can be written at once; and no more than can be sent soon, so that a row
    that changes meanwhile is not held up.
    """
    options = endpoint.options if endpoint is not None else {}
    requests = options.get("requests_per_minute", math.inf) * limits.inputs
    tokens = options.get("tokens_per_minute", math.inf) / _TOKENS_A_ROW
    return max(1, round(min(most, requests / 2, tokens / 2, max(limits.inputs, _FEW))))


@dataclass(frozen=True)
class Limit:
    """So much a minute. ``backfill_share``: what backfill gets of it even while live work takes all it can."""

    per_minute: float
    backfill_share: float = 0.2
    is_tokens: bool = False

    @property
    def burst(self) -> float:
        """How much may go at once; a single request always may."""
        return max(1.0, self.per_minute * _BURST)

    @property
    def has_share(self) -> bool:
        """Whether backfill has room of its own: of a few requests a minute there is none to set apart."""
        return self.is_tokens or self.burst > 1

    @property
    def cost(self) -> float:
        """Microseconds in which one unit flows in: what goes at once, and backfill's own request, are off the rate."""
        if not self.has_share:
            return MINUTE / self.per_minute
        return MINUTE / (self.per_minute - self.burst - (self.burst if self.is_tokens else 1))


@dataclass(frozen=True)
class Bucket:
    """When the bucket, and within it backfill's share, are full again."""

    full_at: int
    share_full_at: int


def wait(bucket: Bucket, limit: Limit, now: int, *, live: bool) -> int:
    """Microseconds until the next request may go; 0 when it may now.

    Live work may use the burst up. Backfill finds room in a full bucket only, or in its own share.
    """
    if live:
        return max(0, round(bucket.full_at - limit.cost * (limit.burst - 1) - now))
    own = bucket.share_full_at if limit.has_share else bucket.full_at
    return max(0, min(bucket.full_at, own) - now)


def spend(bucket: Bucket, limit: Limit, now: int, amount: float, *, live: bool) -> Bucket:
    """Take an amount out. What is given back (a negative amount) never makes a bucket fuller than full."""
    flows_in = amount * limit.cost
    full_at = round(max(bucket.full_at, now) + flows_in)
    if live or amount < 0:
        return Bucket(max(full_at, now), bucket.share_full_at)
    share = round(max(bucket.share_full_at, now) + flows_in / limit.backfill_share)
    return Bucket(full_at, share)
