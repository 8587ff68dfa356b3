"""Builds Dockerfile.postgres without a container engine: its own RUN, COPY and WORKDIR lines, in roots of Debian.

What stands for the official image is Debian's own PostgreSQL in a root that is laid out as that image is (user, sample
of postgresql.conf, folders, variables), and Debian's packages stand for those of the PostgreSQL project, which are not
to be had everywhere. The image's entry point is not there: `Server` starts the server as it does.
"""

import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.fixtures.paths import PROJECT
from tests.fixtures.waiting import wait_until
from tests.packaging.debianroot import FOLDER, DebianRoot
from tests.packaging.dockerfile import Dockerfile, Instruction, Stage, expand, parse

SUITE = "trixie"
MAJOR = "17"  # the suite's own
PGDATA = "/var/lib/postgresql/data"
ENV = {
    "PG_MAJOR": MAJOR,
    "PGDATA": PGDATA,
    "LANG": "en_US.utf8",
    "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{MAJOR}/bin",
}
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"
# The tests' own certificates stay in it, or nothing is reached from where the machine is.
_BASE_IMAGE = """
set -eux
groupadd --system --gid=999 postgres
useradd --system --gid=postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres
echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };' > /etc/apt/apt.conf.d/clean
apt-get update
apt-get install --yes --no-install-recommends libnss-wrapper locales postgresql-common
localedef --inputfile=en_US --charmap=UTF-8 en_US.UTF-8
sed -i 's/^#create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
apt-get install --yes --no-install-recommends "postgresql-$PG_MAJOR"
rm -rf /var/lib/apt/lists/*
cd /usr/share/postgresql
dpkg-divert --add --rename --divert "$PWD/postgresql.conf.sample.dpkg" "$PWD/$PG_MAJOR/postgresql.conf.sample"
sed "s/^#listen_addresses = .*/listen_addresses = '*'/" postgresql.conf.sample.dpkg > postgresql.conf.sample
ln -s ../postgresql.conf.sample "$PG_MAJOR/"
mkdir /docker-entrypoint-initdb.d
install --directory --owner=postgres --group=postgres --mode=3777 /var/run/postgresql
install --directory --owner=postgres --group=postgres --mode=1777 "$PGDATA"
"""
_MADE = Path("usr/share/postgresql/base-image")  # holds what the base was made by
_IGNORED = shutil.ignore_patterns("__pycache__", "*.py[co]")


def _must(root: DebianRoot, command: str, cwd: str, env: Mapping[str, str]) -> None:
    status = root.run(command, cwd=cwd, env=env)
    if status != 0:
        raise RuntimeError(f"failed ({status}): {command}")


def base_image() -> DebianRoot:
    """Return the root that stands for the official image; as that, it may be older than the packages to be had."""
    root = DebianRoot(SUITE, "ca-certificates", "image-base")
    script = hashlib.sha256(_BASE_IMAGE.encode()).hexdigest()
    made = root.path / _MADE
    if not made.exists() or made.read_text("utf-8") != script:
        root.make(fresh=True)
        _must(root, _BASE_IMAGE, "/", {**ENV, "LANG": "C.UTF-8"})  # its own is not there yet
        made.write_text(script, "utf-8")
    return root


def _copy(source: Path, target: Path, *, into: bool) -> None:
    """Copy as COPY does: of a folder, what is in it."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=_IGNORED, symlinks=True, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / source.name if into else target)


class Build:
    """One run through a Dockerfile; `roots` are the finished stages by name, `last` the image."""

    def __init__(self, dockerfile: Dockerfile, arguments: Mapping[str, str]) -> None:
        self._dockerfile = dockerfile
        self._arguments = {**dockerfile.arguments, **arguments}
        self._base = base_image()
        self.roots: dict[str, DebianRoot] = {}
        self.last = self._base
        for stage in dockerfile.stages:
            self._build(stage)

    def _build(self, stage: Stage) -> None:
        wanted = expand(stage.base, self._arguments)
        if wanted != f"postgres:{MAJOR}-{SUITE}":
            raise ValueError(f"nothing here stands for {wanted}")
        self.last = self.roots[stage.name] = self._base.copy(f"image-{stage.name or 'last'}")
        self._workdir, self._variables = "/", dict(ENV)
        steps: dict[str, Callable[[str], None]] = {
            "ARG": self._arg, "RUN": self._run, "COPY": self._copy, "WORKDIR": self._enter,
            "LABEL": lambda _: None, "HEALTHCHECK": lambda _: None,
        }  # fmt: skip
        for instruction in stage.instructions:
            self._step(steps, instruction)

    def _step(self, steps: Mapping[str, Callable[[str], None]], instruction: Instruction) -> None:
        print(f"--- {instruction.name} {instruction.value}", flush=True)
        steps[instruction.name](instruction.value)

    def _arg(self, value: str) -> None:
        self._variables.setdefault(value, self._arguments[value])  # what the image's environment says wins

    def _run(self, value: str) -> None:
        _must(self.last, value, self._workdir, self._variables)

    def _enter(self, value: str) -> None:
        self._workdir = expand(value, self._variables)
        self._inside(self._workdir).mkdir(parents=True, exist_ok=True)

    def _inside(self, path: str) -> Path:
        return self.last.path / path.lstrip("/")

    def _copy(self, value: str) -> None:
        words = shlex.split(expand(value, self._variables))
        stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
        origin = PROJECT if stage is None else self.roots[stage].path
        *patterns, target = words
        sources = [source for pattern in patterns for source in sorted(origin.glob(pattern.lstrip("/")))]
        if len(sources) < len(patterns):
            raise FileNotFoundError(f"COPY {value}")
        into = target.endswith("/") or len(sources) > 1
        for source in sources:
            _copy(source, self._inside(str(Path(self._workdir, target))), into=into)


def build(**arguments: str) -> DebianRoot:
    """Run through Dockerfile.postgres and return the root of its last stage."""
    return Build(parse((PROJECT / "Dockerfile.postgres").read_text("utf-8")), arguments).last


class Server:
    """The server of an image's root, started as the entry point does, at `port` of this machine's loopback."""

    def __init__(self, root: DebianRoot, port: int) -> None:
        self.root = root
        self.port = port
        self.env = {**ENV, "PGPORT": str(port)}
        self._running: subprocess.Popen[str] | None = None

    def shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the image, as `docker exec` does, and return what it said."""
        with self.root.start(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            said, _ = running.communicate()
            return subprocess.CompletedProcess(command, running.returncode, said)

    def initdb(self, options: str = "") -> None:
        """Make the data directory, with the entry point's line for other machines in pg_hba.conf."""
        shutil.rmtree(self.root.path / PGDATA.lstrip("/"), ignore_errors=True)
        make = f"install --directory --owner=postgres --group=postgres --mode=0700 {PGDATA}"
        line = "host all all all scram-sha-256"
        done = self.shell(
            f"{make} && {AS_POSTGRES} initdb --username=postgres {options} && echo '{line}' >> {PGDATA}/pg_hba.conf"
        )
        if done.returncode != 0:
            raise RuntimeError(done.stdout)

    def start(self, options: str = "") -> None:
        """Start it; who needs it waits until it answers."""
        # The shell stays, as root: what has given up root's rights no longer ends with the process that started it.
        command = f"{AS_POSTGRES} postgres {options} & wait $!; exit $?"
        with (FOLDER / "image-server.log").open("a", encoding="utf-8") as log:
            self._running = self.root.start(command, env=self.env, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it with its namespace, as a machine that loses power does."""
        if self._running is None:
            return
        pid = self._running.pid
        (inside,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._running.kill()
        self._running.wait()
        self._running = None
        wait_until(lambda: not Path("/proc", inside).exists(), what="the end of the server")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def dsn(self, user: str = "postgres") -> str:
        """Return how it is reached."""
        return f"host=127.0.0.1 port={self.port} dbname=postgres user={user}"
