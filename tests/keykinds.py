"""Kinds of keys: every type that can be one, with values that print differently under other settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of key: column types in primary-key order, four keys as SQL, the first of them as a user may write it."""

    types: tuple[str, ...]
    keys: tuple[str, str, str, str]
    written: str
    before: str = ""


KINDS = {
    "text and int": Kind(("text", "int"), ("'acme', 7", """'a"b', -1""", """'a"b', 0""", "'', 7"), '["acme", "7"]'),
    "uuid": Kind(
        ("uuid",),
        (
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'00000000-0000-0000-0000-000000000001'",
        ),
        '"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"',
    ),
    "timestamptz": Kind(
        ("timestamptz",),
        ("'2024-02-29 23:59:59.123456+05:45'", "'infinity'", "'0044-03-15 12:00:00+00 BC'", "'-infinity'"),
        '["2024-02-29 18:14:59.123456Z"]',
    ),
    "timestamp": Kind(
        ("timestamp",),
        ("'2024-02-03 04:05:06'", "'infinity'", "'0044-03-15 12:00:00 BC'", "'294276-12-31'"),
        '["February 3, 2024 04:05:06"]',
    ),
    "date and time": Kind(
        ("date", "timetz"),
        ("'2024-02-03', '10:00+02'", "'infinity', '24:00'", "'4713-01-01 BC', '24:00'", "'-infinity', '00:00Z'"),
        '["Feb 3 2024", "10:00:00.000+02:00"]',
    ),
    "numeric": Kind(
        ("numeric",),
        ("1.50", "'NaN'", "12345678901234567890.123456789", "-0.1"),
        '["1.5"]',
    ),
    "float8": Kind(("float8",), ("0.30000000000000004", "'NaN'", "1e300", "'-Infinity'"), '["3.0000000000000004e-1"]'),
    "float8 tiny": Kind(("float8",), ("'-0'", "5e-324", "1.7976931348623157e308", "1e-300"), "[0]"),
    "float4": Kind(("float4",), ("'0.1'", "'1.17549435e-38'", "'3.4028235e38'", "'16777216'"), "0.1"),
    "bytea": Kind(("bytea",), (r"'\x00ff'", r"'\x'", r"'\xdeadbeef'", r"'\x5c27'"), r'["\\000\\377"]'),
    "interval": Kind(
        ("interval",),
        ("'1 year 2 mons -3 days 04:05:06.7'", "'-1 year'", "'00:00:00.000001'", "'0'"),
        '["P1Y2M-3DT4H5M6.7S"]',
    ),
    "domains": Kind(
        ("posint", "word"),
        ("1, 'a'", "2, 'b'", "3, 'c'", "4, 'd'"),
        '["+1", "a"]',
        "CREATE DOMAIN int_ AS int; CREATE DOMAIN posint AS int_ CHECK (VALUE > 0); CREATE DOMAIN word AS text",
    ),
    "domain over timestamptz": Kind(
        ("moment",),
        ("'2024-02-29 23:59:59+05:45'", "'epoch'", "'2000-01-01Z'", "'infinity'"),
        '["2024-02-29 18:14:59Z"]',
        "CREATE DOMAIN moment AS timestamptz",
    ),
    "enum": Kind(
        ('"Mo od"',),
        ("'so so'", """'q''"'""", "'ok'", "'last'"),
        '["so so"]',
        """CREATE TYPE "Mo od" AS ENUM ('so so', 'q''"', 'ok', 'last')""",
    ),
    "citext": Kind(("citext",), ("'Ab'", "'b'", "'c'", "'d'"), '["aB"]', "CREATE EXTENSION citext SCHEMA public"),
    "text array": Kind(
        ("text[]",),
        ("'{a,NULL,\"NULL\"}'", "'{}'", "'[0:1]={x,y}'", """'{"a,b","c\\"d"}'"""),
        '"{ a , null, \\"NULL\\" }"',
    ),
    "timestamptz array": Kind(
        ("timestamptz[]",),
        ("'{2024-02-29 23:59:59+05:45}'", "'{}'", "'{infinity,epoch}'", "'{{epoch},{epoch}}'"),
        '["{2024-02-29T18:14:59Z}"]',
    ),
    "bool": Kind(("bool", "bool"), ("true, true", "true, false", "false, true", "false, false"), '["yes", true]'),
    "char": Kind(("char(5)", '"char"'), ("'ab', 'x'", "'', ''", "'ab', 'y'", "'abcde', 'z'"), '["ab", "x"]'),
    "varchar and name": Kind(("varchar(8)", "name"), ("'ab ', 'n'", "'ab', 'n'", "'', ''", "'x', 'y'"), '["ab ", "n"]'),
    "jsonb": Kind(("jsonb",), ("""'{"a": [1, "x"]}'""", "'null'", "'[]'", "'1.0'"), """["{ \\"a\\":[1,\\"x\\"] }"]"""),
    "ranges": Kind(
        ("int4range", "tstzrange"),
        ("'[1,3]', '[2024-02-29 23:59:59+05:45,)'", "'empty', '(,)'", "'(,)', '(,epoch]'", "'[5,5]', 'empty'"),
        '["[1,4)", "[2024-02-29 18:14:59+00,infinity]"]'.replace("infinity]", ")"),
    ),
    "network and bits": Kind(
        ("inet", "bit(4)", "varbit"),
        ("'10.0.0.1', '0101', ''", "'::1', '0000', '1'", "'10.0.0.0/8', '1111', '11'", "'::', '0001', '0'"),
        '["10.0.0.1/32", "0101", ""]',
    ),
    "money": Kind(("money",), ("'1234.5'", "'-0.01'", "'0'", "'92233720368547758.07'"), '["1234.50"]'),
    "int8": Kind(
        ("int8",),
        ("9223372036854775807", "-9223372036854775808", "0", "9007199254740993"),
        "9223372036854775807",
    ),
}
