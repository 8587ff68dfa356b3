"""The order of lanes in a claim, and their shares."""

from types import SimpleNamespace
from typing import cast

import pytest

from evergreen.core.job import Lane
from evergreen.core.pipeline import Pipeline
from evergreen.queue.claims import lanes


def pipeline(**options):
    return cast("Pipeline", SimpleNamespace(options=options))


def test_live_work_goes_first_up_to_its_share_and_takes_what_backfill_leaves():
    assert lanes(pipeline(), 1000) == [(Lane.LIVE, 800), (Lane.BACKFILL, 1000), (Lane.LIVE, 1000)]


@pytest.mark.parametrize(("share", "room", "live"), [(0.25, 100, 25), (0.01, 10, 1), (1.0, 10, 10)])
def test_the_share_of_live_work_is_the_pipelines_and_at_least_one_key(share, room, live):
    assert lanes(pipeline(live_share=share), room)[0] == (Lane.LIVE, live)
