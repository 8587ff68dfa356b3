"""What a worker clears away every minute, in one short step."""

from evergreen import db
from evergreen.apply import lag, usage
from evergreen.catalog import counters
from evergreen.detect import store
from evergreen.generations import retire
from evergreen.operate import forget
from evergreen.schedule import claim
from evergreen.setup import setting


def keep_house() -> None:
    """Take away what crashed workers, dropped pipelines and time have left; fold counters."""
    claim.drop_orphans()
    claim.drop_dead()
    db.run(claim.SQL.purge_cache, setting.get("cache_retention"))
    counters.create_all()
    usage.fold()
    lag.fold()
    forget.purge()
    retire.overdue()
    store.drop_statistics()
