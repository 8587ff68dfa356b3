"""Named queries: the SQL of a package stands in its ``queries.sql``, that of a large part in a file named after it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from evergreen.core.frozen import frozen
from evergreen.core.job import BULK_CHANGES, MAX_KEY_BYTES
from evergreen.db import advisory_locks

# -- name(type, type): what it does
_HEADER = re.compile(r"^-- (?P<name>\w+)\((?P<types>[^)]*)\): .+$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: What ``load`` puts in the place of ``{name}`` in every file.
_CONSTANTS = {"max_key_bytes": str(MAX_KEY_BYTES), "bulk_changes": str(BULK_CHANGES), **advisory_locks.PLACEHOLDERS}


@frozen
class Query:
    """One statement: its text with $1, $2, … and the types of those parameters."""

    name: str
    types: tuple[str, ...]
    text: str

    def with_identifiers(self, **names: str) -> "Query":
        """Put already quoted identifiers or generated expressions in the place of ``{name}``."""

        def filled(text: str) -> str:
            # In one pass: what is put in may look like a placeholder, and must stay what it is.
            return _PLACEHOLDER.sub(lambda found: names.get(found[1], found[0]), text)

        return Query(self.name, tuple(filled(one) for one in self.types), filled(self.text))


@dataclass
class Queries:
    """The queries of one package, as attributes."""

    path: Path
    _named: dict[str, Query] = field(default_factory=dict[str, Query])

    def __getattr__(self, name: str) -> Query:
        if name.startswith("_") or name not in self._named:
            raise AttributeError(f"{self.path} has no query {name!r}")
        return self._named[name]

    def __iter__(self) -> Iterator[Query]:
        return iter(self._named.values())


def parse(text: str) -> dict[str, Query]:
    """Split a file at its headers ``-- name(types): description``."""
    headers = list(_HEADER.finditer(text))
    ends = [h.start() for h in headers[1:]] + [len(text)]
    found: dict[str, Query] = {}
    for header, end in zip(headers, ends, strict=True):
        types = tuple(t.strip() for t in header["types"].split(",") if t.strip())
        found[header["name"]] = Query(header["name"], types, text[header.end() : end].strip().removesuffix(";"))
    return found


@cache
def load(package: str | None, part: str = "queries") -> Queries:
    """Load the queries of a package, or of a part of it: ``SQL = load(__package__)``."""
    assert package is not None  # no module of ours is a script
    folders = package.split(".")[1:]
    path = Path(__file__).parents[1].joinpath(*folders) / f"{part}.sql"
    found = parse(path.read_text(encoding="utf-8"))
    return Queries(path, {name: query.with_identifiers(**_CONSTANTS) for name, query in found.items()})
