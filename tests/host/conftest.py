"""A scratch Postgres prefix with a pg_config of its own, and a payload to install into it."""

import shutil
from pathlib import Path

import pytest

from evergreen_host.packaging import postgres as pgconfig
from evergreen_host.packaging.install import Payload
from evergreen_host.packaging.postgres import Postgres
from tests.fixtures.doctor import Doctor
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import create, serve

PG_CONFIG = """\
#!/bin/sh
case "$1" in
--version) echo "PostgreSQL 15.99 (scratch)" ;;
--bindir) echo "{prefix}/bin" ;;
--sharedir) echo "{prefix}/share" ;;
--pkglibdir) echo "{prefix}/lib" ;;
esac
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Postgres:
    """A Postgres that is nothing but folders, with the machine's own PL/Python library."""
    prefix = tmp_path / "prefix"
    for folder in ("bin", "share/extension", "lib"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "bin" / "postgres").touch(mode=0o755)
    pg_config = prefix / "bin" / "pg_config"
    pg_config.write_text(PG_CONFIG.format(prefix=prefix))
    pg_config.chmod(0o755)
    shutil.copy(pgconfig.find().plpython, prefix / "lib" / "plpython3.so")
    return Postgres(pg_config)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """A small extension and server package that need nothing from a package registry."""
    files = {
        "extension/evergreen.control.in": "default_version = '@VERSION@'\nmodule_pathname = '@LIBDIR@'\n",
        "extension/sql/one.sql": "SELECT 1;\n",
        "evergreen/__init__.py": "ANSWER = 42\n",
        "evergreen/work/queries.sql": "-- claim\nSELECT 1;\n",
        "evergreen/work/__init__.py": "",
        "evergreen/tests/test_work.py": "",
        "evergreen/__pycache__/__init__.cpython-30.pyc": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Payload("1.2.0", tmp_path / "extension", tmp_path / "evergreen", ["some-package>=1"])


@pytest.fixture
def doctor(dsn: str) -> Doctor:
    """Looks at the test's database."""
    return Doctor(dsn)


@pytest.fixture
def healthy(db, docs, provider) -> str:
    """A pipeline over ten documents, all of them fresh; the provider's counters are at zero."""
    serve(db, provider)
    create(db)
    drain_all(db)
    provider.reset()
    return "docs"
