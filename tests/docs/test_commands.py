"""Every command line of the README and of docs/ runs here, or in a test that is named here."""

import re
import shlex
import subprocess

import pytest
import typer

from evergreen_host import cli
from tests.docs.pages import PAGES, ROOT, WRITTEN, command_lines, inline, tutorial

WHEEL = "tests/packaging/test_clean_machine.py::test_what_is_installed_is_what_the_wheel_says"
IMAGE = "tests/packaging/test_image_in_engine.py::test_the_lines_of_a_page_work_when_pasted"
STATUS = "tests/integration/host/test_status_command.py::"
DASHBOARD = "tests/integration/dashboard/test_command.py::"
IMPORT = "tests/stress/pgai/test_import_pgai.py::"
#: Lines that need a machine or a container of their own, or for ever, and the tests that have it.
ELSEWHERE = {
    "python3 -m venv /opt/evergreen && /opt/evergreen/bin/pip install pg-evergreen": WHEEL,
    "/opt/evergreen/bin/evergreen setup && /opt/evergreen/bin/evergreen install": WHEEL,
    "docker build -f Dockerfile.postgres -t pg-evergreen .": IMAGE,
    "docker run -d --name db -e POSTGRES_PASSWORD=secret pg-evergreen": IMAGE,
    'docker run -d --name db -e POSTGRES_PASSWORD=secret -v "$PWD/secrets:/etc/evergreen/secrets:ro" pg-evergreen': (
        "tests/packaging/test_image_in_engine.py::test_the_lines_of_a_page_work_when_pasted"
    ),
    "until [ \"$(docker inspect -f '{{.State.Health.Status}}' db)\" = healthy ]; do sleep 1; done": IMAGE,
    "docker exec db psql -U postgres -c 'CREATE EXTENSION evergreen CASCADE'": IMAGE,
    "pip install --upgrade pg-evergreen && evergreen install": (
        "tests/scenarios/test_upgrade.py::test_sessions_that_were_open_go_on_or_are_told_to_reconnect"
    ),
    "pip install 'pg-evergreen[ray]'": "tests/stress/test_ray.py::test_what_cannot_be_imported",
    "evergreen ray --dsn 'service=docs' --pipeline docs --embed my_models:factory --actors 8 --gpus 1": (
        "tests/stress/test_ray.py::test_actors_embed_and_one_that_is_killed_costs_only_time"
    ),
    "pip install 'pg-evergreen[dashboard]'": DASHBOARD + "test_without_the_extra_it_says_what_to_install",
    "(umask 077; openssl rand -hex 32 > dashboard-token)": DASHBOARD + "test_with_a_token_as_the_page_says",
    "evergreen dashboard": DASHBOARD + "test_it_serves_until_it_is_told_to_end",  # on a port that may be taken here
    "evergreen dashboard --dsn 'service=docs'": DASHBOARD + "test_it_serves_until_it_is_told_to_end",
    "evergreen dashboard --dsn 'service=docs' --token-file dashboard-token --read-only": (
        DASHBOARD + "test_with_a_token_as_the_page_says"
    ),
    "evergreen status --watch": STATUS + "test_status_stays_up_to_date_until_interrupted",
    "evergreen metrics --serve": STATUS + "test_metrics_are_served_also_while_the_database_is_away",
    "evergreen import pgai --dry-run": IMPORT + "test_a_dry_run_changes_nothing",
    "evergreen import pgai": IMPORT + "test_as_one_runs_it",
    "evergreen import pgai --drop": IMPORT + "test_the_vectorizer_is_dropped_when_all_is_taken",
}
SECRET = "tests/docs/test_provider_pages.py::test_a_key_is_stored_as_the_page_of_secrets_says"
ELSEWHERE |= {
    "install -d -m 0755 /etc/evergreen/secrets": SECRET,
    "install -m 0640 -o root -g postgres /dev/stdin /etc/evergreen/secrets/openai_key": SECRET,
}
#: Commands that run until they are told to end.
STAY = ("evergreen worker",)
#: Commands whose exit code says what they found.
TELL = {"evergreen doctor": {0, 1}}
LINES = command_lines()
OURS = [ours for _, line in LINES for ours in re.findall(r"(?:^|&& |/bin/)(evergreen [^&]+)", line)]


def lines(*starts):
    """Lines that no other test runs, and that start with one of these."""
    return [line for _, line in LINES if line not in ELSEWHERE and line.startswith(starts)]


@pytest.fixture
def followed(environment, tmp_path):
    """The environment of a reader who has followed the tutorial, and has a service file for the database."""
    env = environment()
    subprocess.run(["psql", "-Xqc", tutorial()], env=env, check=True, capture_output=True)
    places = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    service = "".join(f"{name}={env[variable]}\n" for name, variable in places.items())
    (tmp_path / "service").write_text(f"[docs]\n{service}", "utf-8")
    return {**env, "PGSERVICEFILE": str(tmp_path / "service")}


def test_lines_run(followed):
    """Those that stay run beside the others, one of which needs a worker for its end."""
    others = [line for line in lines("") if not line.startswith(("make ", *STAY))]
    stay = [subprocess.Popen(shlex.split(line), env=followed, stdout=subprocess.DEVNULL) for line in lines(*STAY)]
    try:
        for line in others:
            done = subprocess.run(
                ["bash", "-c", line], env=followed, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode in TELL.get(line, {0}), f"{line}\n{done.stdout}{done.stderr}"
    finally:
        for process in stay:
            process.terminate()
    assert [process.wait(30) for process in stay] == [0] * len(stay)


def test_make_knows_its_targets():
    known = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for line in [*lines("make "), *(code for page in PAGES for code in inline(page.read_text("utf-8"), "make "))]:
        assert shlex.split(line)[1] in known, line
        subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, check=True, capture_output=True)


def test_options_are_options_of_the_command():
    """Also within sentences, and in lines that other tests run."""
    for line in {*OURS, *(code for page in WRITTEN for code in inline(page.read_text("utf-8"), "evergreen "))}:
        command = typer.main.get_command(cli.app)
        for word in shlex.split(line.replace("[", " ").replace("]", " "))[1:]:
            if word.startswith("-"):
                known = {option for parameter in command.params for option in parameter.opts}
                assert word in known, f"{line}: {word} is none of {sorted(known)}"
            elif commands := getattr(command, "commands", None):
                assert word in commands, f"{line}: no command {word}"
                command = commands[word]


@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_is_run_elsewhere_is_on_a_page_and_run_there(line):
    assert line in {command for _, command in LINES}
    file, _, name = ELSEWHERE[line].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")
