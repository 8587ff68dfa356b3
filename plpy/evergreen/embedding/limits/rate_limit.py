"""Rate limits as arithmetic: a token bucket kept as one number, the time at which it will be full again.

That is the generic cell rate algorithm (ITU-T I.371). Times are microseconds since 1970, as in the shared state.
A limit holds in any sixty seconds, so the burst is taken off the rate, and times are rounded up: rounded to the
nearest, 14 requests went in a minute that allowed 13.
"""

from math import ceil

from evergreen.core.frozen import frozen

MINUTE = 60_000_000
BURST = 1 / 30  # of a minute's quota: what may go at once


@frozen
class Limit:
    """So much a minute. ``backfill_share``: what backfill gets of it even while live work takes all it can."""

    per_minute: float
    backfill_share: float = 0.2
    is_tokens: bool = False

    @property
    def burst(self) -> float:
        """How much may go at once; a single request always may."""
        return max(1.0, self.per_minute * BURST)

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


@frozen
class Bucket:
    """When the bucket, and within it backfill's share, are full again."""

    full_at: int
    share_full_at: int


def wait(bucket: Bucket, limit: Limit, now: int, *, live: bool) -> int:
    """Microseconds until the next request may go; 0 when it may now.

    Live work may use the burst up. Backfill finds room in a full bucket only, or in its own share.
    """
    if live:
        return max(0, ceil(bucket.full_at - limit.cost * (limit.burst - 1) - now))
    own = bucket.share_full_at if limit.has_share else bucket.full_at
    return max(0, min(bucket.full_at, own) - now)


def spend(bucket: Bucket, limit: Limit, now: int, amount: float, *, live: bool) -> Bucket:
    """Take an amount out. What is given back (a negative amount) never makes a bucket fuller than full."""
    flows_in = amount * limit.cost
    full_at = ceil(max(bucket.full_at, now) + flows_in)
    if live or amount < 0:
        return Bucket(max(full_at, now), bucket.share_full_at)
    share = ceil(max(bucket.share_full_at, now) + flows_in / limit.backfill_share)
    return Bucket(full_at, share)
