"""Whether models answer: each that a pipeline uses is asked for the vector of one word."""

from collections.abc import Iterator

import psycopg

from evergreen_host.database import Database
from evergreen_host.monitor.checks.finding import Finding

_MODELS = """
SELECT g.model, m.endpoint, pg_catalog.string_agg(DISTINCT g.pipeline, ', ' ORDER BY g.pipeline) AS pipelines
FROM {schema}.embed_generations g JOIN {schema}.embed_models m ON m.model = g.model
WHERE g.state <> 'previous' GROUP BY g.model, m.endpoint ORDER BY g.model
"""
_EMBED = "SELECT {schema}.embed('evergreen', %s)"
_IF_THE_KEY = "If it is the key: "  # what follows is a command, on the server's machine
_SLOW = """
SELECT e.endpoint, e.learned_inputs, e.seconds_per_text FROM {schema}.embed_endpoints e
WHERE e.learned_inputs IS NOT NULL ORDER BY e.endpoint
"""
_OPEN_BREAKERS = """
SELECT e.endpoint, e.breaker, e.rests_until, e.failures FROM {schema}.embed_endpoints e
WHERE e.breaker IN ('open', 'half-open') ORDER BY e.endpoint
"""

_SECRETS = """
SELECT e.endpoint, e.problem, e.remedy FROM {schema}.embed_endpoints e
WHERE e.problem IS NOT NULL AND NOT EXISTS (
    SELECT FROM {schema}.embed_generations g JOIN {schema}.embed_models m ON m.model = g.model
    WHERE m.endpoint = e.endpoint AND g.state <> 'previous')
ORDER BY e.endpoint
"""


def secrets(database: Database) -> Iterator[Finding]:
    """Secrets that the server cannot read, for endpoints not in use yet; ``unanswered`` covers the others."""
    for row in database.rows(_SECRETS):
        message = f"endpoint {row['endpoint']}: {row['problem']}; type the key into this:"
        yield Finding("endpoint", "error", message, row["remedy"], in_shell=True)


def unanswered(database: Database) -> Iterator[Finding]:
    """Models that do not answer: the endpoint is away, the key is refused or cannot be read."""
    for row in database.rows(_MODELS):
        try:
            database.rows(_EMBED, row["model"])
        except psycopg.Error as error:
            if error.sqlstate == "42501":
                yield Finding("model", "warning", f"model {row['model']} was not asked: that needs the role embed_user")
                continue
            yield _no_answer(row["model"], row["endpoint"], row["pipelines"], error)


def _no_answer(model: str, endpoint: str | None, pipelines: str, error: psycopg.Error) -> Finding:
    reason = (error.diag.message_primary or str(error)).removeprefix("evergreen: ").strip()
    at = f" at endpoint {endpoint}" if endpoint else ""
    message = f"model {model}{at} of {pipelines} does not answer: {reason}"
    hint = (error.diag.message_hint or "").removeprefix(_IF_THE_KEY)
    if error.diag.message_hint and hint != error.diag.message_hint:
        return Finding("model", "error", f"{message}; if it is the key, type it into this:", hint, in_shell=True)
    return Finding("model", "error", f"{message}; it is asked again by itself")


def breakers(database: Database) -> Iterator[Finding]:
    """Endpoints that are left alone after failures."""
    for row in database.rows(_OPEN_BREAKERS):
        until = f" until {row['rests_until']:%H:%M:%S}" if row["rests_until"] else ""
        yield Finding(
            "endpoint",
            "warning",
            f"endpoint {row['endpoint']} failed {row['failures']} times in a row and is left alone{until};"
            " it is tried again by itself",
        )


def slow(database: Database) -> Iterator[Finding]:
    """Endpoints that take fewer texts at a time than the limits of their models."""
    for row in database.rows(_SLOW):
        pace = f" ({row['seconds_per_text']:.3g} s a text)" if row["seconds_per_text"] is not None else ""
        yield Finding(
            "endpoint",
            "warning",
            f"endpoint {row['endpoint']} takes {row['learned_inputs']} texts at a time{pace}: more were too slow for"
            " its read_timeout, or too large. Work goes on at that pace; set the endpoint again when that changes",
        )
