"""Runs the demo in a throw-away cluster."""

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus, story
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.packaging import postgres as pgconfig
from evergreen_host.packaging.postgres import Postgres


def _tell(session: Session, screen: Screen, documents: corpus.Corpus, *, with_cron: bool) -> None:
    story.set_up(session, screen, documents)
    story.first_drain(session, screen)
    story.ask(session, screen, documents)
    story.a_day(session, screen)
    story.undo(session, screen)
    if with_cron:
        story.unattended(session, screen)
    else:
        screen.say("\npg_cron is not installed: the part without anybody calling embed_drain() is left out.")


def _say_goodbye(screen: Screen, cluster: Cluster) -> None:
    stop = f"{cluster.bin('pg_ctl')} stop -D {cluster.data}"
    if cluster.os_user:
        stop = f"runuser -u {cluster.os_user} -- {stop}"
    screen.say("\nThe cluster is still running. To look around, and to remove it:\n")
    screen.say(f'    {cluster.bin("psql")} "{cluster.dsn()}"')
    screen.say(f"    {stop} && rm -r {cluster.root}")


def run(rows: int, *, keep: bool, postgres: Postgres | None = None) -> None:
    """Tell the whole story over `rows` documents; with `keep` the cluster stays up afterwards."""
    screen = Screen()
    with screen.waiting("gathering documents ..."):
        documents = corpus.best(rows)
    with screen.waiting("starting a throw-away cluster ..."):
        cluster = Cluster(postgres or pgconfig.find(), keep=keep)
    with cluster:
        with Session(cluster.dsn(), screen) as session:
            _tell(session, screen, documents, with_cron=cluster.postgres.has_cron)
        if keep:
            _say_goodbye(screen, cluster)
