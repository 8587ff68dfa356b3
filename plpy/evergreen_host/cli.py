"""The `evergreen` command: reads arguments, calls the module that does the work, sets the exit code.

Exit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 something must be installed first,
the message names it; 4 not permitted, run as another user.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from evergreen_host import install as installer
from evergreen_host import pgconfig
from evergreen_host.demo import run as demonstration
from evergreen_host.errors import EvergreenError
from evergreen_host.report import Report
from evergreen_host.setup import steps
from evergreen_host.worker import run as workforce

app = typer.Typer(
    help="Evergreen keeps embeddings fresh inside Postgres.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 something must be installed first, 4 not permitted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PgConfig = Annotated[Path | None, typer.Option(help="pg_config of the server to use; default $PG_CONFIG, then PATH.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command()
def setup(
    pg_major: Annotated[int | None, typer.Option(help="Major version of PostgreSQL; default the one there.")] = None,
    as_json: Json = False,
) -> None:
    """Install what Evergreen needs: PostgreSQL, PL/Python, pgvector, pg_cron (Debian and Ubuntu)."""
    report = Report(as_json=as_json)
    try:
        major = steps.setup(pg_major, report)
    finally:
        report.close()
    report.next(f"PostgreSQL {major} is ready; next: evergreen install")


@app.command()
def install(
    pg_config: PgConfig = None,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove every version instead.")] = False,
    as_json: Json = False,
) -> None:
    """Install the extension's files and its server-side Python into a PostgreSQL installation."""
    report = Report(as_json=as_json)
    postgres = pgconfig.find(pg_config)
    if uninstall:
        installer.uninstall(postgres, report)
    else:
        installer.install(postgres, installer.own_payload(), report)
        report.next("CREATE EXTENSION evergreen CASCADE;")
    report.close(pg_config=str(postgres.pg_config))


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=100, help="How many documents.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running to look around in.")] = False,
    pg_config: PgConfig = None,
) -> None:
    """Tell the whole story in a throw-away cluster, over real documents, in about a minute."""
    demonstration.run(rows, keep=keep, postgres=pgconfig.find(pg_config))


@app.command()
def worker(
    dsn: Annotated[
        str, typer.Option(help="Connection string of the database; what it leaves out, libpq's variables say.")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, max=32, help="How many sessions work side by side.")] = 1,
    pipeline: Annotated[str | None, typer.Option(help="Work on this pipeline only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Keep a database fresh: work, sleep, and wake within milliseconds of a commit, until SIGTERM."""
    workforce.run(dsn, workers, pipeline, as_json=as_json)


def main() -> None:
    """Run the command line; an error of ours is a message and an exit code, never a traceback."""
    try:
        app()
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
