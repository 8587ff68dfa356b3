"""SQL expressions over one source column: as part of the key, of the hash, of the text.

None of them casts: a cast from a user's type to text or json may be the user's own function, and these run in the
capture trigger with the extension's rights. ``format('%s')`` calls the type's output function.
"""

from collections.abc import Iterable

from evergreen import db
from evergreen.catalog.columns import Column

# to_jsonb gives these a natural JSON form and looks for no user-defined cast.
_NATURAL = frozenset(
    "int2 int4 int8 numeric float4 float8 bool text varchar bpchar name uuid date timestamp timestamptz".split()
)
# Their text depends on the settings named here, so it is either pinned or not used.
_SETTINGS = {
    "float4": ("extra_float_digits",),
    "float8": ("extra_float_digits",),
    "date": ("DateStyle",),
    "timestamp": ("DateStyle",),
    "timestamptz": ("DateStyle", "TimeZone"),
    "timetz": ("DateStyle", "TimeZone"),
    "interval": ("IntervalStyle",),
    "bytea": ("bytea_output",),
    "money": ("lc_monetary",),
    **dict.fromkeys("point lseg path box polygon line circle".split(), ("extra_float_digits",)),
    # These print names, shorter by the search_path: pinned in our functions, but not for the view.
    **dict.fromkeys("regclass regproc regprocedure regoper regoperator regtype regnamespace regrole".split(), ()),
}
_PINNED = {
    "extra_float_digits": "1",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "lc_monetary": "C",
}


def reference(row: str, column: Column) -> str:
    """``row.column``, quoted."""
    return f"{row}.{db.identifier(column.name)}"


def key_part(row: str, column: Column) -> str:
    """The column as an element of the key: natural JSON where there is one, else a string."""
    value = reference(row, column)
    if column.built_in and column.bare_type == "numeric":
        return f"pg_catalog.to_jsonb({_trimmed(value)})"
    if column.built_in and column.bare_type in _NATURAL:
        return f"pg_catalog.to_jsonb({value})"
    return f"pg_catalog.to_jsonb(pg_catalog.format('%s', {value}))"


def key(row: str, columns: Iterable[Column]) -> str:
    """The key: a jsonb array in primary-key order."""
    return f"pg_catalog.jsonb_build_array({', '.join(key_part(row, c) for c in columns)})"


def logged_key(document: str, first: int, columns: Iterable[Column]) -> str:
    """The same key from its columns' text, which is in a JSON array from position ``first`` on.

    For values as the WAL has them, under the settings of ``all_pins``. Only built-in types are cast to: nobody else
    can make a cast to them.
    """
    parts: list[str] = []
    for place, column in enumerate(columns, first):
        text = f"({document} OPERATOR(pg_catalog.->>) {place})"
        if column.built_in and column.bare_type in _NATURAL:
            value = f"{text}::pg_catalog.{column.bare_type}"
            parts.append(f"pg_catalog.to_jsonb({_trimmed(value) if column.bare_type == 'numeric' else value})")
        else:
            parts.append(f"pg_catalog.to_jsonb({text})")
    return f"pg_catalog.jsonb_build_array({', '.join(parts)})"


def _trimmed(value: str) -> str:
    """A number without trailing zeros: 1.50 and 1.5 are one key, so they have one form."""
    return f"pg_catalog.trim_scale({value})"


def key_value(document: str, position: int, column: Column) -> str:
    """The value of the column of a key document, typed; runs the type's input function."""
    return f"({document} OPERATOR(pg_catalog.->>) {position})::{column.type_name}"


def hash_part(row: str, column: Column) -> str:
    """The column as text that depends on no setting of the session: binary output where the text would."""
    value = reference(row, column)
    text = f"pg_catalog.format('%s', {value})"
    if column.send and not column.parts.isdisjoint(_SETTINGS):
        text = f"pg_catalog.encode({column.send}({value}), 'hex')"
    return f"CASE WHEN pg_catalog.num_nulls({value}) OPERATOR(pg_catalog.=) 0 THEN {text} END"


def src_hash(row: str, columns: Iterable[Column]) -> str:
    """SHA-256 of the watched columns; JSON keeps NULL, empty and neighbouring values apart."""
    parts = ", ".join(hash_part(row, c) for c in columns)
    return f"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.json_build_array({parts})::pg_catalog.text, 'UTF8'))"


def pins(columns: Iterable[Column]) -> str:
    """SET clauses for the settings that the text form of these columns depends on."""
    needed: set[str] = set()
    for column in columns:
        for part in column.parts:
            needed.update(_SETTINGS.get(part, ()) if part else _PINNED)
    return "".join(f"\nSET {name} = {db.literal(value)}" for name, value in _PINNED.items() if name in needed)


def all_pins() -> str:
    """SET clauses for every setting that output depends on."""
    return "".join(f"\nSET {name} = {db.literal(value)}" for name, value in _PINNED.items())
