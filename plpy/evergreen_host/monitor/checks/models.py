"""Models and endpoints: embeds one word with each model in use, and looks at secrets and breakers."""

from collections.abc import Iterator

import psycopg

from evergreen_host.database import Database
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.report import pluralize

_MODELS = """
SELECT g.model, m.endpoint, pg_catalog.string_agg(DISTINCT g.pipeline, ', ' ORDER BY g.pipeline) AS pipelines
FROM {schema}.embed_generations g JOIN {schema}.embed_models m ON m.model = g.model
WHERE g.state <> 'previous' GROUP BY g.model, m.endpoint ORDER BY g.model
"""
_EMBED = "SELECT {schema}.embed('evergreen', %s)"
_IF_THE_KEY = "If it is the key: "  # followed by a shell command
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
        message = f"endpoint {row['endpoint']}: {row['problem']}; run this and enter the key:"
        yield Finding("endpoint", "error", message, row["remedy"], in_shell=True)


def unanswered(database: Database) -> Iterator[Finding]:
    """Models that fail: the endpoint is down, or the key is rejected or unreadable."""
    for row in database.rows(_MODELS):
        try:
            database.rows(_EMBED, row["model"])
        except psycopg.Error as error:
            if error.sqlstate == "42501":
                yield Finding(
                    "model", "warning", f"model {row['model']} was not tested, which needs the role embed_user"
                )
                continue
            yield _no_answer(row["model"], row["endpoint"], row["pipelines"], error)


def _no_answer(model: str, endpoint: str | None, pipelines: str, error: psycopg.Error) -> Finding:
    reason = (error.diag.message_primary or str(error)).removeprefix("evergreen: ").strip()
    at = f" at endpoint {endpoint}" if endpoint else ""
    message = f"model {model}{at} of {pipelines} does not answer: {reason}"
    hint = (error.diag.message_hint or "").removeprefix(_IF_THE_KEY)
    if error.diag.message_hint and hint != error.diag.message_hint:
        return Finding(
            "model", "error", f"{message}; if the key is wrong, run this and enter the new one:", hint, in_shell=True
        )
    return Finding("model", "error", f"{message}; workers retry automatically")


def breakers(database: Database) -> Iterator[Finding]:
    """Endpoints with an open breaker."""
    for row in database.rows(_OPEN_BREAKERS):
        until = f" until {row['rests_until']:%H:%M:%S}" if row["rests_until"] else ""
        yield Finding(
            "endpoint",
            "warning",
            f"endpoint {row['endpoint']} failed {pluralize(row['failures'], 'time')} in a row;"
            f" its breaker is open{until}, then workers retry automatically",
        )


def slow(database: Database) -> Iterator[Finding]:
    """Endpoints too slow for the batch size of their models."""
    for row in database.rows(_SLOW):
        pace = f" ({row['seconds_per_text']:.3g} s a text)" if row["seconds_per_text"] is not None else ""
        yield Finding(
            "endpoint",
            "warning",
            f"endpoint {row['endpoint']} gets only {row['learned_inputs']} texts at a time{pace};"
            " larger requests were too slow for its read_timeout or too large. Call embed_endpoint_set again once the"
            " server is faster",
        )
