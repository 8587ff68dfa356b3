"""The encoding of this database's texts: converts what goes to a server that is not UTF-8 and what comes from it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import plpy
from evergreen.db import encoding as encodings
from evergreen.db.errors import DatabaseError, sqlstate

_ANY = {"UTF8", "SQL_ASCII"}  # clients that are sent every character


class Server:
    """The encoding of this database, and what has to be done where it is not UTF-8; see encoding.py."""

    _FITS = "SELECT pg_catalog.convert($1, 'UTF8', $2)"
    _CLIENT = "SELECT pg_catalog.current_setting('client_encoding') AS name"

    def __init__(self) -> None:
        self._encoder = encodings.Encoder(lambda text: self._fits(text, self.encoding))
        self._plan: Any = None

    @cached_property
    def encoding(self) -> str:
        """The server's name for the encoding of this database."""
        return str(next(iter(plpy.execute("SELECT pg_catalog.getdatabaseencoding() AS name")))["name"])

    @cached_property
    def is_utf8(self) -> bool:
        """Whether nothing has to be converted."""
        return self.encoding == "UTF8"

    @cached_property
    def takes_any_bytes(self) -> bool:
        """Whether a text may be bytes that are not UTF-8, which PL/Python is not given: it raises."""
        return self.encoding == "SQL_ASCII"

    def _fits(self, text: str, name: str) -> bool:
        self._plan = self._plan or plpy.prepare(self._FITS, ["pg_catalog.bytea", "pg_catalog.name"])
        try:
            plpy.execute(self._plan, [text.encode(), name])
        except DatabaseError as error:
            if sqlstate(error) not in {"22P05", "22021", "42883"}:  # no such character, or no conversion at all
                raise
            return False
        return True

    def sql(self, text: str) -> str:
        """Return a statement as PL/Python may have it; SQL_ASCII takes UTF-8 as it is."""
        return text if self.is_utf8 or self.encoding == "SQL_ASCII" else encodings.ascii_sql(text)

    def values(self, given: Sequence[Any]) -> list[Any]:
        """Return arguments with no character that the server does not have; not looked at where it has all."""
        return list(given) if self.is_utf8 else [self._encoder.value(one) for one in given]

    def message(self, text: str) -> str:
        """Return a text that the server can store and its client be sent."""
        text = encodings.storable(text) if self.is_utf8 else self._encoder.text(text)
        if text.isascii():
            return text
        client = str(next(iter(plpy.execute(self._CLIENT)))["name"])
        return text if client in _ANY else encodings.Encoder(lambda part: self._fits(part, client)).text(text)

    @contextmanager
    def reading(self) -> Generator[None]:
        """While this lasts, messages of the server may come in its encoding."""
        if self.is_utf8:
            yield
            return
        try:
            with encodings.lenient():
                yield
        except DatabaseError as error:
            self._reread(error)
            raise

    def _reread(self, error: Any) -> None:
        def again(values: tuple[Any, ...]) -> tuple[Any, ...]:
            name = encodings.codec(self.encoding)
            return tuple(encodings.reread(one, name) if isinstance(one, str) else one for one in values)

        error.args = again(error.args)
        if (data := getattr(error, "spidata", None)) is not None:
            error.spidata = again(data)


server = Server()
