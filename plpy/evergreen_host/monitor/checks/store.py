"""Whether the vectors in embed_store belong to pipelines."""

from collections.abc import Iterator

from evergreen_host.database import Link
from evergreen_host.monitor.checks.finding import Finding

# Only an admin sees every generation, and so knows which tables belong to none.
_STRAYS = """
SELECT c.oid::pg_catalog.regclass::text AS name, pg_catalog.substr(c.relname, 2) AS number
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'embed_store'
WHERE c.relkind = 'r' AND c.relname ~ '^g[0-9]+$' AND pg_catalog.pg_has_role('embed_admin', 'USAGE')
  AND NOT EXISTS (SELECT FROM {schema}.embed_generations g WHERE 'g' || g.generation = c.relname)
ORDER BY pg_catalog.substr(c.relname, 2)::int
"""


def strays(link: Link) -> Iterator[Finding]:
    """Tables that outlived their pipelines: an extension that was dropped, or a restore without the catalog."""
    rows = list(link.rows(_STRAYS))
    if not rows:
        return
    names = ", ".join(row["name"] for row in rows)
    parents = ", ".join(f"embed_store.readable_{row['number']}" for row in rows)
    yield Finding(
        "store",
        "warning",
        f"the vectors in {names} belong to no pipeline: restore the tables of schema embed with them, or drop them",
        f"DROP TABLE IF EXISTS {parents}, {names} CASCADE;",
    )
