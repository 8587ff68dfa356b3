"""Transaction-pooled connections: pgbouncer where it is installed, and an emulation of what it does to a client."""

import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
from waiting import wait_until

from evergreen_host.cluster import Cluster

#: Where Debian's package has it.
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
BACKENDS = 3

_SETTINGS = """
[databases]
* = host={root} port={server_port} user=postgres
[pgbouncer]
listen_port = {port}
unix_socket_dir = {root}
auth_type = any
pool_mode = transaction
default_pool_size = {backends}
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_round_robin = 1
ignore_startup_parameters = extra_float_digits
logfile = {root}/pgbouncer.log
"""


class Pooled:
    """One client of a real pooler: what backends it has is the pooler's business."""

    def __init__(self, dsn: str) -> None:
        self._client = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        """Run one statement in a transaction of its own; return its rows."""
        return self._run([(statement, parameters)])[0]

    def transaction(self, statements: Iterable[str]) -> list[list[Any]]:
        """Run statements in one transaction; return the rows of each."""
        return self._run([(one, None) for one in ("BEGIN", *statements, "COMMIT")])[1:-1]

    def _run(self, statements: Iterable[tuple[str, Any]]) -> list[list[Any]]:
        return _rows_of_each(self._client, statements)

    def close(self) -> None:
        """End the client's connection."""
        self._client.close()


class Emulated(Pooled):
    """As a pooler would have it: each transaction in another backend, where nothing of the session is left behind."""

    def __init__(self, dsn: str) -> None:
        self._backends = [psycopg.connect(dsn, autocommit=True, prepare_threshold=None) for _ in range(BACKENDS)]
        self._turn = cycle(self._backends)

    def _run(self, statements: Iterable[tuple[str, Any]]) -> list[list[Any]]:
        backend = next(self._turn)
        try:
            return _rows_of_each(backend, statements)
        finally:
            backend.execute("DISCARD ALL")

    def close(self) -> None:
        """End the backends."""
        for backend in self._backends:
            backend.close()


def _rows_of_each(connection: psycopg.Connection[Any], statements: Iterable[tuple[str, Any]]) -> list[list[Any]]:
    try:
        cursors = [connection.execute(*one) for one in statements]
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
    finally:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.execute("ROLLBACK")


@contextmanager
def pgbouncer(cluster: Cluster) -> Iterator[int]:
    """Run pgbouncer in front of a server; yields the port on which it listens in the server's socket directory."""
    port = cluster.port + 1 if cluster.port < 65535 else cluster.port - 1
    home = Path(cluster.root)
    file = home / "pgbouncer.ini"
    file.write_text(_SETTINGS.format(root=home, server_port=cluster.port, port=port, backends=BACKENDS))
    group: list[str] | None = [] if cluster.os_user else None
    process = subprocess.Popen(
        [str(PGBOUNCER), "--quiet", str(file)],
        cwd=home, user=cluster.os_user, group=cluster.os_user, extra_groups=group,
    )  # fmt: skip
    try:
        wait_until((home / f".s.PGSQL.{port}").exists, what="pgbouncer")
        yield port
    finally:
        process.terminate()
        process.wait(10)


class MiniPool:
    """A pooler to a client that takes it for a server: in transaction mode each transaction has another backend.

    For where pgbouncer is not installed. ``port`` is that of its socket in the server's directory. One client at a time
    in a backend; sessions of ``session`` mode keep theirs.
    """

    def __init__(self, cluster: Cluster, *, mode: str) -> None:
        self.port = cluster.port + 1 if cluster.port < 65535 else cluster.port - 1
        self._server = str(Path(cluster.root) / f".s.PGSQL.{cluster.port}")
        self._mode = mode
        self._free: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = Path(cluster.root) / f".s.PGSQL.{self.port}"
        self._listener.bind(str(self._path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "MiniPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._path.unlink()
        for backend in self._free:
            backend.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _backend(self, startup: bytes) -> socket.socket:
        """A session of the server, free or new, ready for a query."""
        if self._free:
            return self._free.pop(0)
        backend = socket.socket(socket.AF_UNIX)
        backend.connect(self._server)
        backend.sendall(startup)
        while _message(backend)[:1] != b"Z":
            pass
        return backend

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            startup = _message(client, untyped=True)
            while len(startup) == 8:  # asks for encryption
                client.sendall(b"N")
                startup = _message(client, untyped=True)
            client.sendall(b"R" + struct.pack("!ii", 8, 0) + b"K" + struct.pack("!iii", 12, 1, 1))
            client.sendall(b"Z" + struct.pack("!i", 5) + b"I")
            backend = None
            while (message := _message(client))[:1] != b"X":
                backend = backend or self._backend(startup)
                backend.sendall(message)
                if message[:1] not in b"QS":  # no answer is ready before a query or a Sync
                    continue
                while (answer := _message(backend))[:1] != b"Z":
                    client.sendall(answer)
                client.sendall(answer)
                if self._mode == "transaction" and answer[-1:] == b"I":
                    self._free.append(backend)
                    backend = None


def _message(source: socket.socket, *, untyped: bool = False) -> bytes:
    head = _exactly(source, 4 if untyped else 5)
    return head + _exactly(source, struct.unpack("!i", head[-4:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        if not (more := source.recv(size - len(got))):
            raise EOFError
        got += more
    return got
