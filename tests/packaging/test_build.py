"""The install script is the concatenation of extension/sql, the control file a filled-in template."""

import re
from pathlib import Path

import pytest

from evergreen_host.errors import EvergreenError
from evergreen_host.packaging import build, dist, upgrade

LIBDIR = Path("/srv/lib/evergreen/1.2.0")


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    for name, text in {
        "evergreen.control.in": "default_version = '@VERSION@'\nmodule_pathname = '@LIBDIR@'\n",
        "sql/20_work/b.sql": "SELECT 'b';\n",
        "sql/10_schema/z.sql": "SELECT 'z';\n",
        "sql/10_schema/a.sql": "SELECT 'a';\n",
        "sql/10_schema/notes.txt": "not SQL",
        "upgrade/evergreen--1.1.0--1.2.0.sql": "AS $python$\n@boot@\n$python$;\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_files_come_in_path_order_each_under_its_name(extension: Path):
    script = build.render_script(extension / "sql", "1.2.0")
    order = [line for line in script.splitlines() if line.startswith(("-- ", "SELECT"))]
    assert order == [
        "-- sql/10_schema/a.sql", "SELECT 'a';",
        "-- sql/10_schema/z.sql", "SELECT 'z';",
        "-- sql/20_work/b.sql", "SELECT 'b';",
    ]  # fmt: skip


def test_script_refuses_to_be_run_by_psql(extension: Path):
    first = build.render_script(extension / "sql", "1.2.0").splitlines()[0]
    assert first == r'\echo Use "CREATE EXTENSION evergreen CASCADE" to load this file. \quit'


def test_control_file_names_version_and_library(extension: Path):
    control = build.render(extension, "1.2.0", LIBDIR)["evergreen.control"]
    assert control == "default_version = '1.2.0'\nmodule_pathname = '/srv/lib/evergreen/1.2.0'\n"


BOOT = """\
import sys
if "evergreen" not in sys.modules:
    sys.path.insert(0, "MODULE_PATHNAME")
    try: import evergreen
    except ModuleNotFoundError as _cause:
        if _cause.name != "evergreen": raise
        plpy.error("the server-side library of evergreen 1.2.0 is missing", detail="MODULE_PATHNAME does not exist",
                   hint="ALTER EXTENSION evergreen UPDATE; or, on the server: evergreen install", sqlstate="58P01")
    finally: sys.path.remove("MODULE_PATHNAME")
import evergreen; evergreen.enter("1.2.0", r'''@extschema@''')
"""
RETURN_1 = """\
try:
    return 1
except (plpy.Error, plpy.SPIError) as _error:
    raise _error.with_traceback(None) from None
"""


@pytest.mark.parametrize(
    ("source", "built"),
    [
        ("AS $python$\n@boot@\nreturn 1\n$python$;\n", f"AS $python$\n{BOOT}{RETURN_1}$python$;\n"),
        ("AS\n$python$@boot@\nreturn 1\n$python$;\n", f"AS\n$python$\n{BOOT}{RETURN_1}$python$;\n"),
        ("AS $python$\n@boot@\n$python$;\n", f"AS $python$\n{BOOT}$python$;\n"),
        ("-- writes @boot@ in a sentence\n", "-- writes @boot@ in a sentence\n"),
    ],
)
def test_boot_lines_load_the_library_of_this_version(source: str, built: str):
    assert build.expand_boot(source, "1.2.0") == built


def test_the_type_vector_is_found_in_the_schema_of_pgvector():
    expanded = build.expand_vector_search_path("@vector_search_path@\nCREATE TABLE t (v vector);\n")
    assert expanded.startswith("SELECT pg_catalog.set_config('search_path',")
    assert expanded.endswith("'vector';\nCREATE TABLE t (v vector);\n")


def test_upgrade_scripts_load_the_version_they_lead_to(extension: Path):
    files = build.render(extension, "9.9.9", LIBDIR)
    assert 'evergreen.enter("1.2.0", ' in files["evergreen--1.1.0--1.2.0.sql"]


def test_misnamed_upgrade_script_is_refused(extension: Path):
    (extension / "upgrade" / "fix.sql").write_text("")
    with pytest.raises(EvergreenError, match=r"evergreen--FROM--TO\.sql"):
        build.render(extension, "1.2.0", LIBDIR)


def test_no_sql_is_an_error(tmp_path: Path):
    with pytest.raises(EvergreenError, match=r"no \.sql files"):
        build.render_script(tmp_path, "1.2.0")


def test_the_script_means_the_same_in_any_encoding_and_with_any_escapes():
    """It is read in the encoding of the database, and under its standard_conforming_strings."""
    script = build.render_script(dist.extension_dir() / "sql", "9.9.9")
    assert script.isascii()
    escaped = [line for line in script.splitlines()[1:] if "\\" in line and "E'" not in line]
    assert escaped == []
    for path in (dist.extension_dir().parent / "plpy" / "evergreen").rglob("*.sql"):
        statements = re.sub("^--.*", "", path.read_text("utf-8"), flags=re.MULTILINE)
        assert "\\" not in statements, path


UPGRADE = """\
ALTER TABLE embed.setting ADD COLUMN note text;
@replacements@
"""
INSTALL = """\
SET LOCAL search_path TO pg_catalog, pg_temp;
CREATE TABLE embed.setting (name text);
CREATE FUNCTION embed.one(a int = 1) RETURNS int LANGUAGE plpython3u AS $python$
@boot@
return 1
$python$;
COMMENT ON FUNCTION embed.one(int) IS 'one; two';
CREATE VIEW embed.seen AS SELECT 1;
GRANT SELECT ON embed.seen TO PUBLIC;
"""


def test_an_upgrade_repeats_functions_views_comments_and_grants(extension: Path):
    """Of the version in development: what changes a table stands in the script by hand, before them."""
    (extension / "sql/30_more.sql").write_text(INSTALL)
    (extension / "upgrade/evergreen--1.1.0--@VERSION@.sql").write_text(UPGRADE)
    (extension / "upgrade/evergreen--1.1.0--1.2.0.sql").unlink()
    script = build.render(extension, "1.3.0", LIBDIR)["evergreen--1.1.0--1.3.0.sql"]
    kinds = [line.split("(")[0].split(" IS ")[0] for line in script.splitlines() if line[:1].isupper()]
    assert kinds == [
        "ALTER TABLE embed.setting ADD COLUMN note text;",
        "SET LOCAL search_path TO pg_catalog, pg_temp;",
        "CREATE OR REPLACE FUNCTION embed.one",
        "COMMENT ON FUNCTION embed.one",
        "CREATE OR REPLACE VIEW embed.seen AS SELECT 1;",
        "GRANT SELECT ON embed.seen TO PUBLIC;",
    ]
    assert 'evergreen.enter("1.3.0"' in script


def test_every_upgrade_sets_the_search_path_first():
    """Both its own statements and what it repeats, whose first one follows psql's guard in the install script."""
    rendered = build.render(dist.extension_dir(), dist.version(), LIBDIR)
    scripts = {name: script for name, script in rendered.items() if name.count("--") == 2}
    assert list(scripts) != []
    for name, script in scripts.items():
        assert next(upgrade.statements(script)) == "SET LOCAL search_path TO pg_catalog, pg_temp", name
    install = rendered[f"evergreen--{dist.version()}.sql"]
    assert next(upgrade.replacements(install)) == "SET LOCAL search_path TO pg_catalog, pg_temp"


def test_the_upgrade_to_a_release_must_not_change_with_the_sources(extension: Path):
    (extension / "upgrade/evergreen--1.1.0--1.2.0.sql").write_text("@replacements@\n")
    with pytest.raises(EvergreenError, match=r"1\.1\.0--1\.2\.0\.sql has @replacements@"):
        build.render(extension, "1.3.0", LIBDIR)
