"""SQL expressions over one source column: as part of the key, of the hash, of the text.

None of them casts, except from a domain to its base type: a cast from a user's type to text or json may be the user's
own function, and these run in the capture trigger with the extension's rights. ``format('%s')`` calls the type's output
function.
"""

from collections.abc import Iterable

from evergreen import db
from evergreen.source.table import Column

# to_jsonb gives these a natural JSON form and looks for no user-defined cast.
_NATURAL = frozenset(
    "int2 int4 int8 numeric float4 float8 bool text varchar bpchar name uuid date timestamp timestamptz".split()
)
_TEXTS = frozenset("text varchar bpchar name".split())
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
}
# These print the name that an object has now, qualified as the search_path demands, which is pinned for the reader but
# not for the view: type, catalog of the objects, whether arguments are part of the name.
_NAMES = {
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
_PINNED = {
    "extra_float_digits": "1",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "lc_monetary": "C",
}
# Bytes, as a database in SQL_ASCII has them: of UTF-8, and not taken for a spelled text.
_UTF8 = (
    r"^(?!\\x)([\x01-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}"
    r"|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*$"
)


def reference(row: str, column: Column) -> str:
    """``row.column``, quoted."""
    return f"{row}.{db.identifier(column.name)}"


def comparable(row: str, column: Column) -> str:
    """The column as an operand of its index's operators: ``=`` of anyenum takes no domain over an enum.

    The server relabels a value of a domain as one of its base type, whatever casts there are.
    """
    value = reference(row, column)
    return f"{value}::{column.type_name}" if column.is_domain else value


def key_part(row: str, column: Column) -> str:
    """The column as an element of the key: natural JSON where there is one, else a string."""
    value = reference(row, column)
    if column.built_in and column.bare_type == "numeric":
        return f"pg_catalog.to_jsonb({_trimmed(value)})"
    if column.built_in and column.bare_type in _NATURAL - (_TEXTS if db.server.takes_any_bytes else frozenset()):
        return f"pg_catalog.to_jsonb({value})"
    text = f"pg_catalog.format('%s', {value})"
    return f"pg_catalog.to_jsonb({_spelled(text)})"


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
            if column.bare_type in _TEXTS and db.server.takes_any_bytes:
                value = _spelled(f"pg_catalog.format('%s', {value})")
            parts.append(f"pg_catalog.to_jsonb({_trimmed(value) if column.bare_type == 'numeric' else value})")
        else:
            parts.append(f"pg_catalog.to_jsonb({_spelled(text)})")
    return f"pg_catalog.jsonb_build_array({', '.join(parts)})"


def _spelled(text: str) -> str:
    """The text; where the database takes bytes that are no text, and Python cannot be given, those by their digits."""
    if not db.server.takes_any_bytes:
        return text
    pattern = "E'" + _UTF8.replace("\\", "\\\\") + "'"
    return (
        f'CASE WHEN {text} COLLATE pg_catalog."C" OPERATOR(pg_catalog.~) {pattern} THEN {text}'
        f" ELSE pg_catalog.concat(E'\\\\x', pg_catalog.encode(pg_catalog.convert_to({text}, 'SQL_ASCII'), 'hex')) END"
    )


def key_text(document: str, position: int) -> str:
    """The text of a column of a key document, as ``key`` made it."""
    text = f"({document} OPERATOR(pg_catalog.->>) {position})"
    if not db.server.takes_any_bytes:
        return text
    bytes_of = f"pg_catalog.decode(pg_catalog.substr({text}, 3), 'hex')"
    return (
        f"(CASE WHEN pg_catalog.starts_with({text}, E'\\\\x') THEN pg_catalog.convert_from({bytes_of}, 'SQL_ASCII')"
        f" ELSE {text} END)"
    )


def _trimmed(value: str) -> str:
    """A number without trailing zeros: 1.50 and 1.5 are one key, so they have one form."""
    return f"pg_catalog.trim_scale({value})"


def key_value(document: str, position: int, column: Column) -> str:
    """The value of the column of a key document, typed; runs the type's input function."""
    return f"{key_text(document, position)}::{column.type_name}"


def hash_part(row: str, column: Column) -> str:
    """The column as text that depends on no setting of the session: binary output where the text would."""
    value = reference(row, column)
    text = f"pg_catalog.format('%s', {value})"
    if holds_names(column) and unwatchable(column) is None:
        text = _names(value, column)
    elif column.send and not column.parts.isdisjoint(_SETTINGS):
        text = f"pg_catalog.encode({column.send}({value}), 'hex')"
    return f"CASE WHEN pg_catalog.num_nulls({value}) OPERATOR(pg_catalog.=) 0 THEN {text} END"


def holds_names(column: Column) -> bool:
    """True when its text has names of other objects, and so changes when those are renamed."""
    return not column.parts.isdisjoint(_NAMES)


def unwatchable(column: Column) -> tuple[str, str] | None:
    """Return what is wrong with a column whose text may change unnoticed, and what to do; None where nothing is."""
    if column.virtual:
        return (
            "is generated when it is read, and triggers do not see it",
            "Make it STORED, or name the columns that it is made of.",
        )
    if holds_names(column) and not (column.built_in and column.bare_type.removeprefix("_") in _NAMES):
        return (
            f"of type {column.type_name} has names of objects inside, whose renaming could not be noticed",
            "Use a column of such a type itself (regclass, regtype[]), or one of type text.",
        )
    return None


def _names(value: str, column: Column) -> str:
    """The names in a value as the catalog has them now; the number of an object that is gone."""
    if column.bare_type in _NAMES:
        return _name(value, column.bare_type)
    element = _name("u.name", column.bare_type.removeprefix("_"))
    return (
        f"(SELECT pg_catalog.json_build_array(pg_catalog.array_dims({value}), pg_catalog.json_agg({element}"
        f" ORDER BY u.place))::pg_catalog.text FROM pg_catalog.unnest({value}) WITH ORDINALITY u (name, place))"
    )


def _name(value: str, type_name: str) -> str:
    catalog, with_arguments = _NAMES[type_name]
    arguments = ", o.object_args::pg_catalog.text" if with_arguments else ""
    number = f"({value})::pg_catalog.oid"
    return (
        f"(SELECT CASE WHEN o.object_names IS NULL THEN {number}::pg_catalog.text"
        f" ELSE pg_catalog.concat(o.object_names::pg_catalog.text{arguments}) END"
        f" FROM pg_catalog.pg_identify_object_as_address('pg_catalog.{catalog}'::pg_catalog.regclass, {number}, 0) o)"
    )


def src_hash(row: str, columns: Iterable[Column]) -> str:
    """SHA-256 of the watched columns; JSON keeps NULL, empty and neighbouring values apart."""
    parts = ", ".join(hash_part(row, c) for c in columns)
    encoding = "SQL_ASCII" if db.server.takes_any_bytes else "UTF8"  # the same bytes, and those that are not UTF-8
    return (
        f"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.json_build_array({parts})::pg_catalog.text, '{encoding}'))"
    )


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
