"""The demo's connection: runs its named statements, on screen or behind it."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self, cast

import psycopg

from evergreen_host.demo.documents import Document
from evergreen_host.demo.screen import Screen
from evergreen_host.errors import EvergreenError

_NAME = re.compile(r"^-- (\w+) --\n", re.MULTILINE)
_DESCRIPTION = re.compile(r"^(?:--.*\n)*")


def load_queries(path: Path) -> dict[str, str]:
    """Return name to statement, without descriptions and the final semicolon."""
    _, *parts = _NAME.split(path.read_text("utf-8"))
    statements = (_DESCRIPTION.sub("", text, count=1).strip().removesuffix(";") for text in parts[1::2])
    return dict(zip(parts[::2], statements, strict=True))


_STATEMENTS = load_queries(Path(__file__).with_name("story.sql"))


def _statement(name: str) -> LiteralString:
    """Return a statement of story.sql."""
    return cast("LiteralString", _STATEMENTS[name])


class Session:
    """One connection in autocommit mode, like psql."""

    def __init__(self, dsn: str, screen: Screen) -> None:
        self._screen = screen
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.add_notice_handler(self._notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        self._screen.server_output(f"{notice.severity}: {notice.message_primary}")

    def _run(self, name: str, parameters: dict[str, Any], *, show: bool) -> psycopg.ClientCursor[Any]:
        cursor = psycopg.ClientCursor[Any](self._connection)
        if show:
            self._screen.sql(cursor.mogrify(_statement(name), parameters))
        try:
            return cursor.execute(_statement(name), parameters)
        except psycopg.Error as error:
            raise EvergreenError(f"statement {name!r} of the demo failed: {error}") from error

    def do(self, name: str, *, show: bool = True, **parameters: Any) -> int:
        """Run a statement and return the number of changed rows."""
        return self._run(name, parameters, show=show).rowcount

    def value(self, name: str, *, show: bool = False, **parameters: Any) -> Any:
        """Run a query and return its single value."""
        row = self._run(name, parameters, show=show).fetchone()
        return row[0] if row else None

    def rows(self, name: str, *, show: bool = True, **parameters: Any) -> Sequence[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return self._run(name, parameters, show=show).fetchall()

    def load(self, documents: Sequence[Document]) -> None:
        """Copy the documents into the table, numbered from 1."""
        self._screen.sql(_statement("load"))
        with self._connection.cursor().copy(_statement("load")) as copy:
            for number, document in enumerate(documents, start=1):
                copy.write_row((number, document.title, document.body))
