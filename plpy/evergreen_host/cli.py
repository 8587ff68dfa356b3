"""The `evergreen` command line: arguments and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something must be installed first, 4 not permitted.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evergreen_host.compute import ray as compute_ray
from evergreen_host.compute.embedder import Settings
from evergreen_host.dashboard.start import serve_dashboard
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
from evergreen_host.report import Report, pluralize
from evergreen_host.worker import run as worker_run

app = typer.Typer(
    help="Evergreen keeps embeddings in Postgres fresh.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something must be installed first, 4 not permitted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PgConfig = Annotated[Path | None, typer.Option(help="pg_config of the server. Default: $PG_CONFIG, then the PATH.")]
Dsn = Annotated[str, typer.Option(help="Connection string. Default: PGHOST, PGDATABASE and the other libpq variables.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def setup(
    pg_major: Annotated[
        int | None, typer.Option(help="Major version of PostgreSQL. Default: the installed one.")
    ] = None,
    for_tests: Annotated[bool, typer.Option("--for-tests", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Install the packages Evergreen needs: PostgreSQL, PL/Python, pgvector, pg_cron (Debian, Ubuntu)."""
    report = Report(as_json=as_json)
    try:
        major = debian_setup.setup(pg_major, report, for_tests=for_tests)
    finally:
        report.close()
    report.next(f"PostgreSQL {major} is ready; next: evergreen install")


@app.command()
def install(
    pg_config: PgConfig = None,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove all installed versions.")] = False,
    as_json: Json = False,
) -> None:
    """Install the extension and its server-side Python packages into PostgreSQL."""
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
    rows: Annotated[int, typer.Option(min=100, help="Number of documents.")] = 3000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the cluster running afterwards.")] = False,
    pg_config: PgConfig = None,
) -> None:
    """Demonstrate Evergreen on real documents in a temporary cluster; takes about a minute."""
    demo_run.run(rows, keep=keep, postgres=find_postgres(pg_config))


@app.command()
def ray(
    dsn: Annotated[str, typer.Option(help="Connection string of a role with embed_worker.")],
    pipeline: Annotated[str, typer.Option(help="The pipeline whose texts are embedded.")],
    embed: Annotated[
        str, typer.Option(help="module:factory; factory(model) returns a function from texts to vectors.")
    ] = "evergreen_host.compute.openai:factory",
    actors: Annotated[int, typer.Option(min=1, help="Number of embedding processes.")] = 2,
    batch: Annotated[
        int, typer.Option(min=1, help="Maximum rows per claim, and so texts per call of your function.")
    ] = 256,
    lease: Annotated[str, typer.Option(help="Time after which the claim of a dead actor expires.")] = "5 min",
    model: Annotated[str | None, typer.Option(help="Claim only texts of this model, if the pipeline has two.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster. Default: start a local one.")] = None,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per actor.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per actor.")] = 0.0,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="Exit when the queue is empty.")] = False,
) -> None:
    """Embed on a Ray cluster: actors claim texts, call your function, and submit the vectors."""
    settings = Settings(dsn, pipeline, embed, batch, lease, model, until_empty)
    report = Report(as_json=False)
    done = compute_ray.run(settings, compute_ray.RayPool(actors, address, cpus, gpus), report)
    report.done(f"{pluralize(done, 'text')} embedded")


@app.command()
def worker(
    dsn: Dsn = "",
    workers: Annotated[int, typer.Option(min=1, max=32, help="Number of concurrent sessions.")] = 1,
    pipeline: Annotated[str | None, typer.Option(help="Work on this pipeline only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log in JSON, one object per line.")] = False,
) -> None:
    """Run a worker until SIGTERM; it wakes within milliseconds of a commit."""
    worker_run.run(dsn, workers, pipeline, as_json=as_json)


@app.command()
def backfill(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    dsn: Dsn = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the progress of the running backfill; start none.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the backfill and return.")] = False,
    as_json: Json = False,
) -> None:
    """Check every row of a pipeline's table and show the progress. Ctrl-C stops the display, not the backfill."""
    if follow and no_wait:
        raise typer.BadParameter("--follow and --no-wait exclude each other")
    monitor_backfill.backfill(dsn, pipeline, Report(as_json=as_json), start=not follow, follow=not no_wait)


@app.command()
def status(
    pipeline: Annotated[str | None, typer.Argument(help="Name of a pipeline. Default: all.")] = None,
    dsn: Dsn = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep running, and show backlog and lag over time.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Show the pipelines of a database: fresh, pending and failed rows, lag, cost."""
    monitor_status.status(dsn, pipeline, watch=watch, every=every, as_json=as_json)


@app.command()
def doctor(dsn: Dsn = "", as_json: Json = False) -> None:
    """List problems in a database, each with what to type; exit code 1 if one keeps embeddings from being fresh.

    Embeds one word with each model in use.
    """
    if monitor_doctor.doctor(dsn, as_json=as_json):
        raise typer.Exit(EvergreenError.exit_code)


@app.command()
def metrics(
    dsn: Dsn = "",
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the metrics over HTTP instead of printing them.")
    ] = False,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 9187,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Print a Grafana dashboard instead.")] = False,
    alerts: Annotated[bool, typer.Option("--alerts", help="Print alert rules for Prometheus instead.")] = False,
) -> None:
    """Print the status as Prometheus metrics, or serve them over HTTP."""
    if dashboard:
        print(monitor_metrics.dashboard(), end="")
    elif alerts:
        print(monitor_metrics.alerts(), end="")
    elif serve:
        monitor_metrics.serve(dsn, address, port)
    else:
        print(monitor_metrics.exposition(dsn), end="")


@app.command()
def dashboard(
    dsn: Dsn = "",
    listen: Annotated[str, typer.Option(help="Address and port to listen on.")] = "127.0.0.1:9188",
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that opens the page; required where others can reach it.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Host name by which browsers reach the page, as through a proxy.")
    ] = None,
) -> None:
    """Serve a web page for operators, with the rights of the connection's role."""
    serve_dashboard(dsn, listen, tuple(host or ()), read_only=read_only, token_file=token_file)


imports = typer.Typer(help="Import embeddings of another extension.", no_args_is_help=True)
app.add_typer(imports, name="import")


@imports.callback()
def _imports() -> None:  # with one command only, typer would drop the word `pgai`
    """Import embeddings of another extension."""


@imports.command("pgai")
def import_pgai(
    dsn: Dsn = "",
    vectorizer: Annotated[str | None, typer.Option(help="Id or name of the vectorizer, if there are several.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the pipeline. Default: the table's.")] = None,
    view: Annotated[str | None, typer.Option(help="Name of its view. Default: NAME_embedding, if available.")] = None,
    model: Annotated[str | None, typer.Option(help="A registered model. Default: the matching one.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Register the model on this endpoint if necessary.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the vectorizer afterwards; its vectors stay.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a pgai vectorizer into a pipeline; only texts that changed since are embedded again."""
    options = pgai.ImportOptions(vectorizer, name, view, model, endpoint, dry_run, drop)
    pgai.import_pgai(dsn, options, Report(as_json=as_json))


def main() -> None:
    """Run the command line; expected errors print a message and set the exit code."""
    try:
        app()
    except BrokenPipeError:  # e.g. `evergreen status | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
