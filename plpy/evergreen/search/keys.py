"""Typed values of stored keys, for SQL that runs with the caller's rights.

They are converted by their types' input functions, as ``jsonb_to_recordset`` does. A cast from text could be another
role's function, and would run as the caller.
"""

import json
from collections.abc import Iterable, Sequence

from evergreen import db
from evergreen.catalog import json_objects
from evergreen.source import expressions as ex


def records(rows: Iterable[db.Row], *names: str) -> str:
    """Return a JSON array of rows: their place, key, columns of these names, and the key's values as k1, k2, …"""
    parts: list[str] = []
    for place, row in enumerate(rows):
        values = json.loads(row["key"], parse_int=str, parse_float=str)
        more = {name: row[name] for name in names}
        more |= {f"k{i}": json_objects.scalar_text(value) for i, value in enumerate(values, 1)}
        parts.append(f'{{"place": {place}, "key": {row["key"]}, {json_objects.dumps(more)[1:]}')
    return f"[{', '.join(parts)}]"


def columns(types: Sequence[str]) -> str:
    """Return definitions of the columns k1, k2, … of the records; with a comma before each."""
    return "" if db.server.takes_any_bytes else "".join(f", k{i} {one}" for i, one in enumerate(types, 1))


def values(row: str, types: Sequence[str]) -> list[str]:
    """Return SQL of the values. In SQL_ASCII a key may have bytes that JSON does not take, which are decoded first."""
    if db.server.takes_any_bytes:
        return [f"{ex.key_text(f'{row}.key', place)}::{one}" for place, one in enumerate(types)]
    return [f"{row}.k{i}" for i in range(1, len(types) + 1)]
