"""Rate limits as arithmetic: a token bucket kept as one number, the time at which it will be full again.

That is the generic cell rate algorithm (ITU-T I.371). Times are microseconds since 1970, as in the shared state.
A limit is meant for any sixty seconds, so what may go at once (the burst) is taken off the rate.
"""

from dataclasses import dataclass

MINUTE = 60_000_000
_BURST = 1 / 30  # of a minute's quota: what may go at once


@dataclass(frozen=True)
class Limit:
    """So much a minute. ``backfill_share``: what backfill gets of it even while live work takes all it can."""

    per_minute: float
    backfill_share: float = 0.2

    @property
    def burst(self) -> float:
        """How much may go at once; a single request always may."""
        return max(1.0, self.per_minute * _BURST)

    @property
    def cost(self) -> float:
        """Microseconds in which one unit flows in."""
        return MINUTE / max(self.per_minute - (self.burst if self.burst > 1 else 0), self.per_minute / 2)


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
    return max(0, min(bucket.full_at, bucket.share_full_at) - now)


def spend(bucket: Bucket, limit: Limit, now: int, amount: float, *, live: bool) -> Bucket:
    """Take an amount out. What is given back (a negative amount) never makes a bucket fuller than full."""
    flows_in = amount * limit.cost
    full_at = round(max(bucket.full_at, now) + flows_in)
    if live or amount < 0:
        return Bucket(max(full_at, now), bucket.share_full_at)
    share = round(max(bucket.share_full_at, now) + flows_in / limit.backfill_share)
    return Bucket(full_at, share)
