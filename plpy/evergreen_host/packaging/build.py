"""Builds the control files and scripts of the extension from the folder `extension/`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from evergreen_host.errors import EvergreenError
from evergreen_host.packaging import dist, upgrade

_PSQL_GUARD = r'\echo Use "CREATE EXTENSION evergreen CASCADE" to load this file. \quit'
_BOOT_LINE = re.compile(
    r"^(?P<quote>\$python\$)?[ \t]*@boot@[ \t]*$\n?(?P<body>.*?)(?=^\$python\$|\Z)", re.MULTILINE | re.DOTALL
)
_UPGRADE_NAME = re.compile(r"evergreen--[^-]+(?:-[^-]+)*--(?P<target>[^-]+(?:-[^-]+)*)\.sql")

# Runs first in every PL/Python body. Postgres replaces MODULE_PATHNAME by the control file's module_pathname, which is
# on sys.path for the first import only; plpy/evergreen/core/isolation.py hides its other packages from users' code.
# `_cause` is no parameter of any function: a name bound here is local to the whole body, and would hide a parameter.
_BOOT_CODE = """\
import sys
if "evergreen" not in sys.modules:
    sys.path.insert(0, "MODULE_PATHNAME")
    try: import evergreen
    except ModuleNotFoundError as _cause:
        if _cause.name != "evergreen": raise
        plpy.error("the server-side library of evergreen {version} is missing", detail="MODULE_PATHNAME does not exist",
                   hint="ALTER EXTENSION evergreen UPDATE; or, on the server: evergreen install", sqlstate="58P01")
    finally: sys.path.remove("MODULE_PATHNAME")
import evergreen; evergreen.enter("{version}", r'''@extschema@''')
"""

# An error that a user caused is raised here once more: PL/Python shows each frame of its traceback in the CONTEXT, and
# those of the library mean nothing to the user. An unexpected error keeps its traceback.
_RERAISE_CODE = """\
except (plpy.Error, plpy.SPIError) as _error:
    raise _error.with_traceback(None) from None
"""

# pgvector may be in any schema, and PostgreSQL 15 leaves `@extschema:vector@` unreplaced. Where the type `vector` is
# named, the script has this search_path until its next SET LOCAL.
_VECTOR_LINE = re.compile(r"^@vector_search_path@$", re.MULTILINE)
_VECTOR_SEARCH_PATH = """\
SELECT pg_catalog.set_config('search_path',
    pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';"""


def expand_boot(sql: str, version: str) -> str:
    """Replace each `@boot@` line by the code that loads that version's server package; wrap the rest of the body."""
    boot = _BOOT_CODE.format(version=version)

    def expanded(found: re.Match[str]) -> str:
        quote, body = found["quote"], found["body"]
        wrapped = f"try:\n{indent(body, '    ')}{_RERAISE_CODE}" if body.strip() else body
        return (f"{quote}\n" if quote else "") + boot + wrapped

    return _BOOT_LINE.sub(expanded, sql)


def expand_vector_search_path(sql: str) -> str:
    """Replace each `@vector_search_path@` line by the query that sets it."""
    return _VECTOR_LINE.sub(_VECTOR_SEARCH_PATH, sql)


def _expand_macros(sql: str, version: str) -> str:
    return expand_vector_search_path(expand_boot(sql, version))


def render_control(template: str, version: str, libdir: Path) -> str:
    """Fill in the control file; `libdir` becomes the module_pathname."""
    return template.replace("@VERSION@", version).replace("@LIBDIR@", str(libdir))


def render_version_control(libdir: Path) -> str:
    """Return the control file of one version, which keeps its library path after a later one becomes the default."""
    return f"module_pathname = '{libdir}'\n"


def render_script(sql_dir: Path, version: str) -> str:
    """Concatenate every .sql file below `sql_dir`, in sorted path order, into the install script."""
    files = sorted(sql_dir.rglob("*.sql"), key=lambda path: path.relative_to(sql_dir).parts)
    if not files:
        raise EvergreenError(f"no .sql files in {sql_dir}")
    parts = [_PSQL_GUARD]
    for path in files:
        name = path.relative_to(sql_dir.parent).as_posix()
        parts.append(f"-- {name}\n{_expand_macros(path.read_text('utf-8'), version).strip()}")
    return "\n\n".join(parts) + "\n"


def render_upgrade(text: str, script: str, version: str) -> str:
    """Expand an upgrade script; `@replacements@` stands for what it repeats of the install script of its version."""
    repeated = "\n\n".join(f"{statement};" for statement in upgrade.replacements(script))
    return _expand_macros(text.replace("@replacements@", repeated), version)


def _upgrades(extension_dir: Path, version: str) -> Iterator[tuple[str, str]]:
    script = render_script(extension_dir / "sql", version)
    for path in sorted((extension_dir / "upgrade").glob("*.sql")):
        match = _UPGRADE_NAME.fullmatch(path.name.replace("@VERSION@", version))
        if match is None:
            raise EvergreenError(f"{path} is not named evergreen--FROM--TO.sql")
        text = path.read_text("utf-8")
        if "@replacements@" in text and match["target"] != version:
            raise EvergreenError(f"{path} has @replacements@, which only the upgrade to {version} may have")
        yield match[0], render_upgrade(text, script, match["target"])


def render(extension_dir: Path, version: str, libdir: Path) -> dict[str, str]:
    """Return every file of the extension directory, name to content."""
    template = (extension_dir / "evergreen.control.in").read_text("utf-8")
    return {
        "evergreen.control": render_control(template, version, libdir),
        f"evergreen--{version}.control": render_version_control(libdir),
        f"evergreen--{version}.sql": render_script(extension_dir / "sql", version),
        **dict(_upgrades(extension_dir, version)),
    }


def main(target: Path) -> None:
    """Write the extension's files to a folder, for `make check` and packagers."""
    target.mkdir(parents=True, exist_ok=True)
    for name, content in render(dist.extension_dir(), dist.version(), Path("$libdir/evergreen")).items():
        (target / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
