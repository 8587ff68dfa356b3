"""Runs the demo in a temporary cluster."""

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus, story
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.packaging.postgres import Postgres, find_postgres


def _run_acts(session: Session, screen: Screen, documents: corpus.Corpus, *, with_cron: bool) -> None:
    story.set_up(session, screen, documents)
    story.first_drain(session, screen)
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


def run(rows: int, *, keep: bool, postgres: Postgres | None = None) -> None:
    """Run the demo over `rows` documents; with `keep` the cluster keeps running."""
    screen = Screen()
    with screen.waiting("reading documents ..."):
        documents = corpus.best(rows)
    with screen.waiting("starting a temporary cluster ..."):
        cluster = Cluster(postgres or find_postgres(), keep=keep)
    with cluster:
        with Session(cluster.dsn(), screen) as session:
            _run_acts(session, screen, documents, with_cron=cluster.postgres.has_cron)
        if keep:
            _print_cleanup(screen, cluster)
