"""SQL expressions over a source column: in the key, the hash and the text.

None of them casts from a user's type, except from a domain to its base type: such a cast may be the user's own
function, and the capture trigger runs with the extension's rights. ``format('%s')`` calls the type's output function.
"""

from collections.abc import Iterable

from evergreen import db
from evergreen.source.table import Column

# to_jsonb converts these natively, without looking for a user-defined cast.
_NATIVE_JSON = frozenset(
    "int2 int4 int8 numeric float4 float8 bool text varchar bpchar name uuid date timestamp timestamptz".split()
)
_TEXT_TYPES = frozenset("text varchar bpchar name".split())
# Settings on which the text of a type depends: they are pinned, or the text is not used.
_SETTINGS_OF_TYPE = {
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
}
# Types that print an object's current name, qualified depending on search_path, which is pinned for the reader but
# not for the view. Their catalog, and whether arguments are part of the name.
_OBJECT_NAME_TYPES = {
    "regclass": ("pg_class", True),
    "regcollation": ("pg_collation", True),
    "regconfig": ("pg_ts_config", True),
    "regdictionary": ("pg_ts_dict", True),
    "regnamespace": ("pg_namespace", True),
    "regoper": ("pg_operator", False),
    "regoperator": ("pg_operator", True),
    "regproc": ("pg_proc", False),
    "regprocedure": ("pg_proc", True),
    "regrole": ("pg_authid", True),
    "regtype": ("pg_type", True),
}
_PINNED_VALUES = {
    "extra_float_digits": "1",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "lc_monetary": "C",
}
# Valid UTF-8 in a SQL_ASCII database that does not start like the hex form of other bytes.
_UTF8 = (
    r"^(?!\\x)([\x01-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}"
    r"|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*$"
)


def reference(row: str, column: Column) -> str:
    """Return ``row.column``, quoted."""
    return f"{row}.{db.identifier(column.name)}"


def comparable(row: str, column: Column) -> str:
    """Return the column as an operand of its index's operators: ``=`` of anyenum takes no domain over an enum.

    The server relabels a value of a domain as one of its base type, whatever casts exist.
    """
    value = reference(row, column)
    return f"{value}::{column.type_name}" if column.is_domain else value


def key_element(row: str, column: Column) -> str:
    """Return the column as an element of the key: native JSON where the type has one, else a string."""
    value = reference(row, column)
    if column.built_in and column.bare_type == "numeric":
        return f"pg_catalog.to_jsonb({_trim_zeros(value)})"
    native = _NATIVE_JSON - _TEXT_TYPES if db.server.takes_any_bytes else _NATIVE_JSON
    if column.built_in and column.bare_type in native:
        return f"pg_catalog.to_jsonb({value})"
    text = f"pg_catalog.format('%s', {value})"
    return f"pg_catalog.to_jsonb({_hex_unless_text(text)})"


def key(row: str, columns: Iterable[Column]) -> str:
    """Return the key: a jsonb array in primary-key order."""
    return f"pg_catalog.jsonb_build_array({', '.join(key_element(row, c) for c in columns)})"


def logged_key(document: str, first: int, columns: Iterable[Column]) -> str:
    """Return the same key, made of its columns' text in a JSON array from position ``first`` on.

    The text is that of the WAL, and ``all_pinned_settings`` apply. Casts are to built-in types only, to which users
    cannot define one.
    """
    parts: list[str] = []
    for place, column in enumerate(columns, first):
        text = f"({document} OPERATOR(pg_catalog.->>) {place})"
        if column.built_in and column.bare_type in _NATIVE_JSON:
            value = f"{text}::pg_catalog.{column.bare_type}"
            if column.bare_type in _TEXT_TYPES and db.server.takes_any_bytes:
                value = _hex_unless_text(f"pg_catalog.format('%s', {value})")
            parts.append(f"pg_catalog.to_jsonb({_trim_zeros(value) if column.bare_type == 'numeric' else value})")
        else:
            parts.append(f"pg_catalog.to_jsonb({_hex_unless_text(text)})")
    return f"pg_catalog.jsonb_build_array({', '.join(parts)})"


def _hex_unless_text(text: str) -> str:
    """Return the text, or in SQL_ASCII the hex form of bytes that are not UTF-8, which Python could not take."""
    if not db.server.takes_any_bytes:
        return text
    pattern = "E'" + _UTF8.replace("\\", "\\\\") + "'"
    return (
        f'CASE WHEN {text} COLLATE pg_catalog."C" OPERATOR(pg_catalog.~) {pattern} THEN {text}'
        f" ELSE pg_catalog.concat(E'\\\\x', pg_catalog.encode(pg_catalog.convert_to({text}, 'SQL_ASCII'), 'hex')) END"
    )


def key_text(document: str, position: int) -> str:
    """Return the text of a column in a key that ``key`` made."""
    text = f"({document} OPERATOR(pg_catalog.->>) {position})"
    if not db.server.takes_any_bytes:
        return text
    bytes_of = f"pg_catalog.decode(pg_catalog.substr({text}, 3), 'hex')"
    return (
        f"(CASE WHEN pg_catalog.starts_with({text}, E'\\\\x') THEN pg_catalog.convert_from({bytes_of}, 'SQL_ASCII')"
        f" ELSE {text} END)"
    )


def _trim_zeros(value: str) -> str:
    """Return a number without trailing zeros, because 1.50 and 1.5 are the same key."""
    return f"pg_catalog.trim_scale({value})"


def key_value(document: str, position: int, column: Column) -> str:
    """Return the typed value of a column in a key; calls the type's input function."""
    return f"{key_text(document, position)}::{column.type_name}"


def hash_part(row: str, column: Column) -> str:
    """Return the column as text that no session setting changes: binary output where the text form would change."""
    value = reference(row, column)
    text = f"pg_catalog.format('%s', {value})"
    if contains_object_names(column) and unwatchable(column) is None:
        text = _object_names(value, column)
    elif column.send and not column.parts.isdisjoint(_SETTINGS_OF_TYPE):
        text = f"pg_catalog.encode({column.send}({value}), 'hex')"
    return f"CASE WHEN pg_catalog.num_nulls({value}) OPERATOR(pg_catalog.=) 0 THEN {text} END"


def contains_object_names(column: Column) -> bool:
    """Return whether a column's text contains names of other objects, and so changes when those are renamed."""
    return not column.parts.isdisjoint(_OBJECT_NAME_TYPES)


def unwatchable(column: Column) -> tuple[str, str] | None:
    """Return why a column's text may change unnoticed, and a hint; None where it cannot."""
    if column.virtual:
        return (
            "is a virtual generated column, which triggers do not see",
            "Make it STORED, or name the columns it is generated from.",
        )
    if contains_object_names(column) and not (
        column.built_in and column.bare_type.removeprefix("_") in _OBJECT_NAME_TYPES
    ):
        return (
            f"of type {column.type_name} contains names of objects, and renaming one would go unnoticed",
            "Use a column of type text, or of a type such as regclass or regtype[].",
        )
    return None


def _object_names(value: str, column: Column) -> str:
    """Return the current names of the objects in a value; the OID of an object that is gone."""
    if column.bare_type in _OBJECT_NAME_TYPES:
        return _object_name(value, column.bare_type)
    element = _object_name("u.name", column.bare_type.removeprefix("_"))
    return (
        f"(SELECT pg_catalog.json_build_array(pg_catalog.array_dims({value}), pg_catalog.json_agg({element}"
        f" ORDER BY u.place))::pg_catalog.text FROM pg_catalog.unnest({value}) WITH ORDINALITY u (name, place))"
    )


def _object_name(value: str, type_name: str) -> str:
    catalog, with_arguments = _OBJECT_NAME_TYPES[type_name]
    arguments = ", o.object_args::pg_catalog.text" if with_arguments else ""
    number = f"({value})::pg_catalog.oid"
    return (
        f"(SELECT CASE WHEN o.object_names IS NULL THEN {number}::pg_catalog.text"
        f" ELSE pg_catalog.concat(o.object_names::pg_catalog.text{arguments}) END"
        f" FROM pg_catalog.pg_identify_object_as_address('pg_catalog.{catalog}'::pg_catalog.regclass, {number}, 0) o)"
    )


def src_hash(row: str, columns: Iterable[Column]) -> str:
    """Return the SHA-256 of the watched columns; JSON tells NULL, empty and neighbouring values apart."""
    parts = ", ".join(hash_part(row, c) for c in columns)
    encoding = "SQL_ASCII" if db.server.takes_any_bytes else "UTF8"  # the same bytes, also where they are not UTF-8
    return (
        f"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.json_build_array({parts})::pg_catalog.text, '{encoding}'))"
    )


def pinned_settings(columns: Iterable[Column]) -> str:
    """Return SET clauses for the settings on which the text of these columns depends."""
    needed: set[str] = set()
    for column in columns:
        for part in column.parts:
            needed.update(_SETTINGS_OF_TYPE.get(part, ()) if part else _PINNED_VALUES)
    return "".join(f"\nSET {name} = {db.literal(value)}" for name, value in _PINNED_VALUES.items() if name in needed)


def all_pinned_settings() -> str:
    """Return SET clauses for every setting on which output depends."""
    return "".join(f"\nSET {name} = {db.literal(value)}" for name, value in _PINNED_VALUES.items())
