"""Containers of the image as people configure and harden them; skipped where no engine can be had."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.waiting import wait_until
from tests.packaging import image_story

pytestmark = pytest.mark.root

SCHEDULE = """
CREATE EXTENSION evergreen CASCADE;
CREATE EXTENSION pg_cron;
CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
SELECT embed_create('docs', 'docs', columns => '{title,body}');
SELECT embed_schedule();
"""
#: What the entry point needs to become the postgres user and to own its folders.
NEEDED = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
TMPFS = ("/tmp", "/var/run/postgresql")
Run = Callable[..., Any]


def one(db: image_story.Connection, query: str) -> Any:
    (value,) = db.execute(query).fetchone() or (None,)  # type: ignore[arg-type]
    return value


@pytest.mark.parametrize(
    "options",
    [{"tmpfs": TMPFS, "options": {"read_only": True}}, {"options": {"cap_drop": ["ALL"], "cap_add": NEEDED}}],
    ids=["read-only", "five capabilities"],
)
def test_a_hardened_container(options: dict[str, Any], run: Run):
    with run(**options) as database, database.connected() as db:
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)


def test_a_user_of_ones_own_with_a_folder_of_his(run: Run, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 1001, 1001)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o111)
    with run(data=str(data), options={"user": "1001"}) as database, database.connected() as db:
        image_story.answers_a_question(db)
        assert database.shell("id -u").strip() == "1001"


def test_a_mounted_configuration_file(run: Run, tmp_path: Path):
    """The page says what such a file needs."""
    own = tmp_path / "own.conf"
    needed = "shared_preload_libraries = 'pg_cron'\ncron.use_background_workers = on\n"
    own.write_text(f"{needed}listen_addresses = '*'\nwork_mem = 5MB\n", "utf-8")
    own.chmod(0o644)
    command = "postgres -c config_file=/etc/postgresql/own.conf"
    with run(command, mounts={"/etc/postgresql/own.conf": str(own)}) as database, database.connected() as db:
        assert one(db, "SHOW work_mem") == "5MB"
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)


@pytest.mark.parametrize("options", ["--locale=C.UTF-8", "--locale=en_US.utf8", "--encoding=SQL_ASCII --locale=C"])
def test_locales_and_encodings(options: str, run: Run):
    with run(POSTGRES_INITDB_ARGS=options) as database, database.connected() as db:
        image_story.answers_a_question(db)


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("postgres -c port=6432", 6432),
        ("postgres -c listen_addresses=", 5432),
        ("postgres -c listen_addresses=*", 5432),
    ],
)
def test_it_is_healthy_wherever_it_listens(command: str, port: int, run: Run):
    with run(command, port=port) as database:
        wait_until(lambda: database.health == "healthy", 60, "the container's health")


def test_passwords_for_every_address_do_not_keep_pg_cron_out(run: Run):
    with run(POSTGRES_INITDB_ARGS="--auth-host=scram-sha-256") as database, database.connected() as db:
        said: list[str] = []
        db.add_notice_handler(lambda notice: said.append(notice.severity))
        image_story.answers_a_question(db)
        image_story.stays_fresh_unattended(db)
        assert "WARNING" not in said


def test_an_init_script_that_schedules_warns_of_nothing(run: Run, tmp_path: Path):
    (tmp_path / "10-app.sql").write_text(SCHEDULE, "utf-8")
    tmp_path.chmod(0o755)
    with run(mounts={"/docker-entrypoint-initdb.d": str(tmp_path)}) as database:
        assert database.health != "healthy"
        with database.connected() as db:
            assert "pg_cron runs 1 worker" in database.logs
            assert "WARNING" not in database.logs
            image_story.is_embedded_by_itself(db, 3)


def lacks_shared_memory(run: Run, **options: Any) -> Any:
    """A container whose parallel index build needs more of it than docker gives."""
    return run("postgres -c maintenance_work_mem=256MB", options=options, POSTGRES_DB="app")


MANY = """
INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i || ' ' || md5(i::text) FROM generate_series(3, 12000) i
"""


@pytest.mark.parametrize("options", [{}, {"shm_size": "1g"}], ids=["64 MB", "1 GB"])
def test_an_index_is_built_however_little_shared_memory_there_is(options: dict[str, str], run: Run):
    with lacks_shared_memory(run, **options) as database, database.connected() as db:
        image_story.answers_a_question(db)
        db.execute(MANY)
        db.execute("CALL embed_work(until_empty => true)")

        def indexed() -> Any:
            db.execute("CALL embed_work(until_empty => true)")
            return one(db, "SELECT indexed FROM embed_generations WHERE pipeline = 'docs'")

        wait_until(indexed, 300, "the index")
        status = "SELECT rows, fresh, pending, failed, coverage::float, last_error, maintenance_error FROM embed_status"
        assert db.execute(status).fetchone() == (12000, 12000, 0, 0, 1, None, None)
        assert one(db, "SELECT chunks FROM embed_generations") == 12000
        question = "SELECT title || E'\\n\\n' || body FROM docs WHERE id = 777"
        assert one(db, f"SELECT key FROM embed_search('docs', ({question}), k => 1)") == [777]
