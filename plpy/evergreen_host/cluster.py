"""A temporary Postgres cluster with its own data directory, reachable through a socket in a private folder."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from evergreen_host.errors import CommandError, EvergreenError
from evergreen_host.packaging.postgres import Postgres, find_postgres
from evergreen_host.process import deferred_interrupts, run

StopMode = Literal["smart", "fast", "immediate"]
Option = str | int | bool

_SUPERUSER = "postgres"
_SOCKET_PATH_LIMIT = 107  # of sockaddr_un
_TIMEOUT = "60"
_CLEANUP_SCRIPT = 'cat; "$1" stop --pgdata "$2" --mode immediate; rm -rf "$3"'
# Variables that would change the behaviour of the server or of its Python.
_NOT_INHERITED = re.compile(r"PG[A-Z]+|PYTHON\w*|VIRTUAL_ENV\w*|LC_\w+|LANG|LANGUAGE")


def free_port() -> int:
    """Return an unused TCP port; it also names the socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _literal(value: Option) -> str:
    """Return a value in the syntax of postgresql.conf."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class Cluster:
    """One cluster, from initdb to removal; as a context manager it starts on entry.

    `options` are settings of postgresql.conf and override the defaults. `env` is added to the server's
    environment. `durable` keeps fsync on. `keep` leaves the cluster running when the context ends, unless it is
    interrupted; then the caller calls `remove`. Run as root, the server runs as the OS user `postgres`, otherwise as
    the current user.
    """

    def __init__(
        self,
        postgres: Postgres | None = None,
        *,
        options: Mapping[str, Option] | None = None,
        env: Mapping[str, str] | None = None,
        durable: bool = False,
        keep: bool = False,
    ) -> None:
        self.postgres = postgres or find_postgres()
        self.keep = keep
        self.os_user = _SUPERUSER if os.geteuid() == 0 else None
        self.port = free_port()
        self.root = Path(tempfile.mkdtemp(prefix="evergreen-"))
        self._options = {**self._defaults(durable=durable), **(options or {})}
        inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
        self._env = {**inherited, "LC_ALL": "C.UTF-8", **(env or {})}
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    @property
    def logfile(self) -> Path:
        """The server's log."""
        return self.root / "server.log"

    def _defaults(self, *, durable: bool) -> dict[str, Option]:
        options: dict[str, Option] = {
            "listen_addresses": "",
            "port": self.port,
            "unix_socket_directories": str(self.root),
            "fsync": durable,
            "shared_buffers": "128MB",
            "max_connections": 60,
            "log_line_prefix": "%m [%p] %a ",
        }
        if self.postgres.has_cron:
            options |= {
                "shared_preload_libraries": "pg_cron",
                "cron.database_name": "postgres",
                "cron.host": str(self.root),
                "cron.timezone": "GMT",
            }
        return options

    def __enter__(self) -> Self:
        try:
            with deferred_interrupts():
                self.create()
                self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.keep or isinstance(error, KeyboardInterrupt | SystemExit):
            self.remove()

    def _run(self, program: str, *args: str | Path) -> str:
        try:
            return run([self.bin(program), *args], cwd=self.root, env=self._env, user=self.os_user, own_session=True)
        except CommandError as error:
            log = self.logfile.read_text("utf-8", "replace").splitlines()[-15:] if self.logfile.exists() else []
            raise CommandError("\n".join([str(error), *log])) from error

    def _pg_ctl(self, action: str, *args: str | Path) -> str:
        return self._run("pg_ctl", action, "--pgdata", self.data, "--silent", "--wait", "--timeout", _TIMEOUT, *args)

    def create(self) -> None:
        """Create the data directory and write the settings."""
        if len(str(self.root / f".s.PGSQL.{self.port}")) > _SOCKET_PATH_LIMIT:
            raise EvergreenError(
                f"path {self.root} is too long for a socket", "set a shorter TMPDIR, for example: export TMPDIR=/tmp"
            )
        if self.os_user:  # private: access to the socket is superuser access
            shutil.chown(self.root, self.os_user, self.os_user)
        self._run(
            "initdb", "--pgdata", self.data, "--username", _SUPERUSER, "--encoding", "UTF8", "--locale", "C.UTF-8",
            "--auth-local", "trust", "--auth-host", "reject", "--no-sync", "--no-instructions",
        )  # fmt: skip
        self.configure(self._options)
        if not self.keep:
            self._start_watchdog()

    def configure(self, options: Mapping[str, Option]) -> None:
        """Append settings to postgresql.conf; they take effect at the next start."""
        lines = [f"{name} = {_literal(value)}\n" for name, value in options.items()]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.writelines(lines)

    def _start_watchdog(self) -> None:
        """Start a shell that removes the cluster if this process is killed, which closes the shell's stdin."""
        group: list[str] | None = None if self.os_user is None else []
        self._watchdog = subprocess.Popen(
            ["sh", "-c", _CLEANUP_SCRIPT, "evergreen-cleanup", self.bin("pg_ctl"), self.data, self.root],
            cwd="/", env=self._env, user=self.os_user, group=self.os_user, extra_groups=group,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None

    def start(self) -> None:
        """Start the server and wait until it accepts connections; an error shows the end of its log."""
        self._pg_ctl("start", "--log", self.logfile)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; 'immediate' is a crash."""
        self._pg_ctl("stop", "--mode", mode)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again."""
        self.stop(mode)
        self.start()

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, or None if it does not run (a killed one leaves its pid file)."""
        path = self.data / "postmaster.pid"
        if not path.exists():
            return None
        pid = int(path.read_text("utf-8").splitlines()[0])
        home = Path(f"/proc/{pid}/cwd")
        # The pid may have been reused: only a postmaster's working directory is its data directory.
        return pid if home.exists() and home.samefile(self.data) else None

    def remove(self) -> None:
        """Stop the server if it runs, and remove the cluster."""
        with deferred_interrupts():
            if self.pid is not None:
                self._pg_ctl("stop", "--mode", "immediate")
            shutil.rmtree(self.root)
            self._stop_watchdog()

    def bin(self, name: str) -> Path:
        """Return the path of a program of this PostgreSQL."""
        return self.postgres.bindir / name

    def dsn(self, dbname: str = "postgres", user: str = _SUPERUSER) -> str:
        """Return the connection string of a database."""
        return f"host={self.root} port={self.port} dbname={dbname} user={user}"
