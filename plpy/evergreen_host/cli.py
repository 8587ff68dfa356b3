"""The `evergreen` command: reads arguments, calls the module that does the work, sets the exit code.

Exit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 something must be installed first,
the message names it; 4 not permitted, run as another user.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evergreen_host.compute import ray as compute_ray
from evergreen_host.compute.embedder import Settings
from evergreen_host.debian import setup as debian_setup
from evergreen_host.demo import run as demo_run
from evergreen_host.errors import EvergreenError
from evergreen_host.importers import pgai
from evergreen_host.monitor import backfill as monitor_backfill
from evergreen_host.monitor import doctor as monitor_doctor
from evergreen_host.monitor import metrics as monitor_metrics
from evergreen_host.monitor import status as monitor_status
from evergreen_host.packaging import install as packaging_install
from evergreen_host.packaging.postgres import find_postgres
from evergreen_host.report import Report
from evergreen_host.worker import run as worker_run

app = typer.Typer(
    help="Evergreen keeps embeddings fresh inside Postgres.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 something must be installed first, 4 not permitted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PgConfig = Annotated[Path | None, typer.Option(help="pg_config of the server to use; default $PG_CONFIG, then PATH.")]
Dsn = Annotated[str, typer.Option(help="The database, as psql takes it; default $PGHOST, $PGDATABASE and the like.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command()
def setup(
    pg_major: Annotated[int | None, typer.Option(help="Major version of PostgreSQL; default the one there.")] = None,
    for_tests: Annotated[bool, typer.Option("--for-tests", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Install what Evergreen needs: PostgreSQL, PL/Python, pgvector, pg_cron (Debian and Ubuntu)."""
    report = Report(as_json=as_json)
    try:
        major = debian_setup.setup(pg_major, report, for_tests=for_tests)
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
    postgres = find_postgres(pg_config)
    if uninstall:
        packaging_install.uninstall(postgres, report)
    else:
        packaging_install.install(postgres, packaging_install.own_payload(), report)
        report.next("CREATE EXTENSION evergreen CASCADE;")
    report.close(pg_config=str(postgres.pg_config))


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=100, help="How many documents.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running to look around in.")] = False,
    pg_config: PgConfig = None,
) -> None:
    """Tell the whole story in a throw-away cluster, over real documents, in about a minute."""
    demo_run.run(rows, keep=keep, postgres=find_postgres(pg_config))


@app.command()
def ray(
    dsn: Annotated[str, typer.Option(help="Where the database is, as libpq takes it; of a role with embed_worker.")],
    pipeline: Annotated[str, typer.Option(help="Whose queue to work on.")],
    embed: Annotated[
        str, typer.Option(help="module:factory; factory(model) returns a function from texts to vectors.")
    ] = "evergreen_host.compute.openai:factory",
    actors: Annotated[int, typer.Option(min=1, help="How many processes embed.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Rows in one claim, and texts in one call of your function.")] = 256,
    lease: Annotated[str, typer.Option(help="After how long without a sign of life a claim is others'.")] = "5 min",
    model: Annotated[str | None, typer.Option(help="Claim texts of this model only, where a pipeline has two.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's; default a local one.")] = None,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs of each actor.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each actor.")] = 0.0,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End when nothing is left to embed.")] = False,
) -> None:
    """Embed on a Ray cluster: actors claim texts, call your function, and submit the vectors."""
    settings = Settings(dsn, pipeline, embed, batch, lease, model, until_empty)
    report = Report(as_json=False)
    done = compute_ray.run(settings, compute_ray.RayPool(actors, address, cpus, gpus), report)
    report.done(f"{done} texts embedded")


@app.command()
def worker(
    dsn: Dsn = "",
    workers: Annotated[int, typer.Option(min=1, max=32, help="How many sessions work side by side.")] = 1,
    pipeline: Annotated[str | None, typer.Option(help="Work on this pipeline only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Keep a database fresh: work, sleep, and wake within milliseconds of a commit, until SIGTERM."""
    worker_run.run(dsn, workers, pipeline, as_json=as_json)


@app.command()
def backfill(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    dsn: Dsn = "",
    follow: Annotated[bool, typer.Option("--follow", help="Start nothing: show the one that is under way.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it and return.")] = False,
    as_json: Json = False,
) -> None:
    """Have every row of a pipeline's table checked, and show how far that is. Ctrl-C ends the showing only."""
    if follow and no_wait:
        raise typer.BadParameter("--follow and --no-wait leave nothing to do")
    monitor_backfill.backfill(dsn, pipeline, Report(as_json=as_json), start=not follow, follow=not no_wait)


@app.command()
def status(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; default all.")] = None,
    dsn: Dsn = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show how backlog and waits go.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the pipelines of a database: what is fresh, what waits and for how long, what failed, what it cost."""
    monitor_status.status(dsn, pipeline, watch=watch, every=every, as_json=as_json)


@app.command()
def doctor(dsn: Dsn = "", as_json: Json = False) -> None:
    """Say what is wrong in a database, and what to type; exit code 1 if anything keeps embeddings from being fresh.

    Each model that a pipeline uses is asked for the vector of one word.
    """
    if monitor_doctor.doctor(dsn, as_json=as_json):
        raise typer.Exit(EvergreenError.exit_code)


@app.command()
def metrics(
    dsn: Dsn = "",
    serve: Annotated[bool, typer.Option("--serve", help="Serve them over HTTP instead of printing them once.")] = False,
    address: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 9187,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Print a dashboard for Grafana instead.")] = False,
) -> None:
    """Print the status as Prometheus metrics, or serve it for Prometheus to fetch."""
    if dashboard:
        print(monitor_metrics.dashboard(), end="")
    elif serve:
        monitor_metrics.serve(dsn, address, port)
    else:
        print(monitor_metrics.exposition(dsn), end="")


imports = typer.Typer(help="Take over what another extension has embedded.", no_args_is_help=True)
app.add_typer(imports, name="import")


@imports.callback()
def _imports() -> None:  # so that `pgai` stays a word of its own while it is the only one
    """Take over what another extension has embedded."""


@imports.command("pgai")
def import_pgai(
    dsn: Dsn = "",
    vectorizer: Annotated[str | None, typer.Option(help="Its id or name, where there are several.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the pipeline; default that of the table.")] = None,
    view: Annotated[str | None, typer.Option(help="Name of its view; default NAME_embedding, if that is free.")] = None,
    model: Annotated[str | None, typer.Option(help="A model of embed_models; default the same one.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Add the model on this endpoint, if it is not there.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the vectorizer at the end; its vectors stay.")] = False,
    as_json: Json = False,
) -> None:
    """Make a pgai vectorizer a pipeline, and embed only what changed since pgai embedded it."""
    options = pgai.ImportOptions(vectorizer, name, view, model, endpoint, dry_run, drop)
    pgai.import_pgai(dsn, options, Report(as_json=as_json))


def main() -> None:
    """Run the command line; an error of ours is a message and an exit code, never a traceback."""
    try:
        app()
    except BrokenPipeError:  # whoever read has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
