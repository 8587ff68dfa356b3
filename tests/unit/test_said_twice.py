"""Numbers and names that two languages have to say are the same in both."""

import re
from pathlib import Path

import pytest

from evergreen.catalog import options
from evergreen.core.job import BULK_CHANGES, MAX_KEY_BYTES
from evergreen.db.advisory_locks import PLACEHOLDERS, AdvisoryLock
from evergreen.db.queries import load
from evergreen.embedding.limits import budget
from evergreen.embedding.providers import registry
from evergreen_host.compute import embedder
from evergreen_host.packaging import dist
from evergreen_host.worker import pool

SQL = {path.as_posix(): path.read_text("utf-8") for path in (dist.extension_dir() / "sql").rglob("*.sql")}
SERVER = Path(options.__file__).parents[1]


def said(pattern: str) -> set[str]:
    """What the first group of a pattern is, wherever the scripts of the extension have it."""
    found = {match for text in SQL.values() for match in re.findall(pattern, text)}
    assert found, f"the scripts do not say {pattern}"
    return found


def test_advisory_locks_have_the_numbers_of_the_scripts():
    assert said(r"\b(11632850\d\d)\b") <= {str(int(lock)) for lock in AdvisoryLock}
    assert said(r"lock_shared\((\d{10}), number\)") == {str(int(AdvisoryLock.CLAIM))}
    assert said(r"NOT embed\.held_by_worker\((\d{10}), number\)") == {str(int(AdvisoryLock.CLAIM))}
    assert said(r"advisory_(?:xact_)?(?:un)?lock_shared\((\d{10}), (?:0|pg_catalog\.pg_backend_pid\(\))\)") == {
        str(int(AdvisoryLock.SLEEPER))
    }
    assert said(r"sleeper holds the advisory lock \((\d{10}), 0\)") == {str(int(AdvisoryLock.SLEEPER))}


def test_the_host_asks_a_worker_to_stop_by_the_servers_number():
    assert re.findall(r"\d{10}", pool._REQUEST_STOP) == [str(int(AdvisoryLock.STOP))]


def test_queries_of_the_server_name_a_lock_by_its_placeholder():
    for path in SERVER.rglob("queries.sql"):
        text = path.read_text("utf-8")
        assert not re.findall(r"\b11632850\d\d\b", text), path
        assert set(re.findall(r"\{(lock_\w+)\}", text)) <= set(PLACEHOLDERS), path
    assert str(int(AdvisoryLock.SLOT)) in load("evergreen.worker").take_slot.text


def test_a_key_may_be_as_long_as_the_status_says():
    assert said(r"longer than (\d+) bytes") == said(r"pg_column_size\(q\.key\) > (\d+)") == {str(MAX_KEY_BYTES)}


def test_the_status_knows_which_changes_are_bulk():
    assert said(r"c\.xid = t\.xid OFFSET (\d+)\)") == {str(BULK_CHANGES)}


def test_a_lease_lasts_as_long_everywhere():
    assert (
        said(r"name = 'lease'\)::interval, '([^']+)'::interval") == {options.SETTINGS["lease"].default} == {"5 minutes"}
    )
    assert said(r"lease interval = '([^']+)'") == {embedder.Settings.lease} == {"5 min"}


def test_the_doctor_knows_how_far_a_slot_may_lag():
    checks = (Path(dist.__file__).parents[1] / "monitor" / "checks" / "capture.py").read_text("utf-8")
    assert re.findall(r"pg_size_bytes\('([^']+)'\)", checks) == [options.PIPELINE["slot_limit"].default]


def test_a_budget_is_read_as_it_is_written():
    assert said(r"counter >> (\d+) = today") == said(r"::bigint << (\d+)\) - 1\)\)\n") == {str(budget._BITS)}
    assert said(r"clock_timestamp\(\)\) / (\d+)\);") == {str(budget._DAY)}


@pytest.mark.parametrize("name", ["wordllama", "hash", "function", "openai", "ollama", "cohere", "voyage"])
def test_queries_know_which_providers_are_free(name):
    texts = [query.text for query in load("evergreen.embedding.limits")]
    (listed,) = {found for text in texts for found in re.findall(r"provider NOT IN \(([^)]*)\)", text)}
    assert (f"'{name}'" in listed) == registry.provider(name).free
