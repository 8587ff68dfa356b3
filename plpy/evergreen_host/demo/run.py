"""Runs the demo in a temporary cluster."""

import signal
import sys
from contextlib import ExitStack
from types import FrameType

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus, story
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.packaging.postgres import Postgres, find_postgres
from evergreen_host.process import this_command

_NEXT_STEPS = """
Now with your own table. In psql, in your database, as a superuser:

    CREATE EXTENSION evergreen CASCADE;
    SELECT embed_create('mine', 'my_table', columns => '{{title,body}}');

In a shell, start a worker, which embeds the rows and keeps them fresh:

    {command} worker --dsn 'dbname=mydb'

Then ask: SELECT * FROM embed_search('mine', 'a question');
README.md has each step, under "Getting started"."""


def _run_acts(session: Session, screen: Screen, documents: corpus.Corpus, *, with_cron: bool) -> None:
    story.set_up(session, screen, documents)
    story.first_drain(session, screen, documents)
    story.ask(session, screen, documents)
    story.day_of_changes(session, screen)
    story.undo(session, screen)
    if with_cron:
        story.unattended(session, screen)
    else:
        screen.text("\npg_cron is not installed, so the part with a scheduled worker is skipped.")


def _print_cleanup(screen: Screen, cluster: Cluster) -> None:
    stop = f"{cluster.bin('pg_ctl')} stop -D {cluster.data}"
    if cluster.os_user:
        stop = f"runuser -u {cluster.os_user} -- {stop}"
    screen.text("\nThe cluster is still running. To explore it, and to remove it:\n")
    screen.text(f'    {cluster.bin("psql")} "{cluster.dsn()}"')
    screen.text(f"    {stop} && rm -r {cluster.root}")


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def run(rows: int, *, keep: bool, postgres: Postgres | None = None) -> None:
    """Run the demo over `rows` documents; with `keep` the cluster keeps running."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)  # like Ctrl-C, so that everything temporary is removed
    screen = Screen()
    with screen.waiting("reading documents ..."):
        documents = corpus.best(rows)
    postgres = postgres or find_postgres()
    with ExitStack() as temporary:
        with screen.waiting("starting a temporary cluster ..."):
            cluster = temporary.enter_context(Cluster(postgres, keep=keep))
        if keep:
            temporary.callback(_print_cleanup, screen, cluster)
        with Session(cluster.dsn(), screen) as session:
            _run_acts(session, screen, documents, with_cron=postgres.has_cron)
    screen.text(_NEXT_STEPS.format(command=this_command()))
