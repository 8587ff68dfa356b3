"""`evergreen doctor`: lists problems, each with what to type."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import psycopg
from rich.console import Console
from rich.text import Text

from evergreen_host.database import Database, open_database
from evergreen_host.monitor.checks import (
    batches,
    capture,
    maintenance,
    models,
    pipelines,
    server,
    workers,
)
from evergreen_host.monitor.checks.finding import Finding
from evergreen_host.report import pluralize

CHECKS: tuple[Callable[[Database], Iterator[Finding]], ...] = (
    server.library,
    server.owner,
    server.versions,
    server.event_triggers,
    server.shadowing_routines,
    server.settings,
    capture.triggers,
    capture.slots,
    workers.jobs,
    workers.limits,
    workers.no_worker,
    workers.old_transactions,
    models.unanswered,
    models.secrets,
    models.breakers,
    models.slow,
    batches.latest,
    pipelines.states,
    pipelines.late,
    maintenance.indexes,
    maintenance.recall,
    maintenance.failed_tasks,
    maintenance.orphaned_tables,
)


def findings(database: Database) -> Iterator[Finding]:
    """Run every check; a check that fails, e.g. for lack of a privilege, becomes a finding itself."""
    for check in CHECKS:
        try:
            yield from check(database)
        except psycopg.Error as error:
            if database.connection.closed:
                raise
            locked = database.lock_problem() if isinstance(error, psycopg.errors.LockNotAvailable) else None
            message = str(locked or error.diag.message_primary or error).strip()
            yield Finding(check.__name__, "warning", f"check failed: {message}", locked.hint if locked else "")


def doctor(dsn: str, *, as_json: bool) -> int:
    """Print the findings and return the number of errors; raises EvergreenError."""
    with open_database(dsn, "evergreen doctor", only_reads=True) as database:
        found = list(findings(database))
        name = database.name
    errors = sum(one.level == "error" for one in found)
    if as_json:
        print(json.dumps({"database": name, "errors": errors, "findings": [asdict(one) for one in found]}))
        return errors
    console = Console(highlight=False, soft_wrap=True)
    for one in sorted(found, key=lambda one: one.level):
        console.print(_line(one))
        if one.advice:
            console.print(Text(f"         {'$ ' if one.in_shell else ''}{one.advice}", style="bold"))
    warnings = len(found) - errors
    if not found:
        console.print(Text.assemble(("ok", "green"), f" no problems found in database {name} ({len(CHECKS)} checks)"))
    else:
        counts = f"{pluralize(errors, 'error')}, {pluralize(warnings, 'warning')}"
        console.print(f"{counts} in database {name}")
    return errors


def _line(one: Finding) -> Text:
    colour = "bold red" if one.level == "error" else "yellow"
    return Text.assemble((f"{one.level:8}", colour), f" {one.message}")
