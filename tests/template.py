"""The database that tests' databases are copies of: it has the extension."""

import psycopg

from evergreen_host.cluster import Cluster


def make_template(cluster: Cluster) -> None:
    """Make it on a server."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE evergreen_template")
    with psycopg.connect(cluster.dsn("evergreen_template"), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION evergreen CASCADE")
