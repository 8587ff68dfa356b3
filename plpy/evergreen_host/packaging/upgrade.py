"""What an upgrade script repeats of the install script, and a draft of the script between two releases.

    python -m evergreen_host.packaging.upgrade evergreen--0.2.0.sql evergreen--0.3.0.sql > draft.sql

While a version is in development, its upgrade script has the changes of tables by hand, and `@replacements@`, which
the build fills in: functions and views are replaced, comments and grants repeated. The draft is for the release, after
which the script must not change with the sources any more. Other changed statements follow `-- BY HAND` there, to be
rewritten as ALTER TABLE and so on. A test compares the result with a fresh installation.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(r"--[^\n]*\n|(?P<tag>\$\w*\$).*?(?P=tag)|'(?:[^']|'')*'|\"[^\"]*\"|;|[^;$'\"-]+|.", re.DOTALL)
_ROUTINE = re.compile(
    r"CREATE (?P<kind>FUNCTION|PROCEDURE) (?P<name>\S+?)\((?P<arguments>.*?)\)\s*(?:RETURNS|LANGUAGE)", re.DOTALL
)
_VIEW = re.compile(r"CREATE VIEW (\S+)")
_DEFAULT = re.compile(r"\s*(?:=|DEFAULT)\s*(?:'[^']*'|[^,'])+")
_CREATED = re.compile(
    r"CREATE (?:UNIQUE )?(?:TABLE|INDEX|SEQUENCE|(?:CONSTRAINT |EVENT )?TRIGGER) (?P<made>[\w.]+)"
    r"|(?:ALTER TABLE \S+ ENABLE ALWAYS TRIGGER |SELECT pg_catalog\.pg_extension_config_dump\(')(?P<told>[\w.]+)"
)
_PSQL_COMMAND = re.compile(r"^\\\w.*\n", re.MULTILINE)
_SEARCH_PATH = ("SET LOCAL search_path", "SELECT pg_catalog.set_config('search_path'")
_REPEATED = ("COMMENT", "GRANT", "REVOKE", "ALTER EVENT TRIGGER")


@dataclass(frozen=True)
class Routine:
    """The identity of a function or procedure."""

    kind: str
    name: str
    arguments: str

    @property
    def signature(self) -> str:
        """The signature, in the syntax of DROP."""
        return f"{self.kind} {self.name}({self.arguments})"


def statements(script: str) -> Iterator[str]:
    """Split a script into statements, without psql's commands and the comments between statements."""
    parts: list[str] = []
    for token in _TOKEN.finditer(_PSQL_COMMAND.sub("", script)):
        text = token[0]
        if text == ";":
            yield "".join(parts).strip()
            parts = []
        elif not (text.startswith("--") and not "".join(parts).strip()):
            parts.append(text)


def routine(statement: str) -> Routine | None:
    """Return the routine that a statement creates, or None."""
    found = _ROUTINE.match(statement)
    if found is None:
        return None
    arguments = [_DEFAULT.sub("", one).strip() for one in _split(found["arguments"])]
    return Routine(found["kind"], found["name"], ", ".join(one for one in arguments if not one.startswith("OUT ")))


def _split(arguments: str) -> list[str]:
    """Split at commas outside of quotes."""
    return [one for one in re.split(r",(?=(?:[^']*'[^']*')*[^']*$)", arguments) if one.strip()]


def replacements(script: str) -> Iterator[str]:
    """Yield what an upgrade repeats of an install script: functions, views, comments and grants."""
    for statement in statements(script):
        if routine(statement) or _VIEW.match(statement):
            yield statement.replace("CREATE ", "CREATE OR REPLACE ", 1)
        elif statement.startswith((*_SEARCH_PATH, *_REPEATED)):
            yield statement


def draft(old: str, new: str) -> Iterator[str]:
    """Yield the statements of an upgrade from one install script to another."""
    before, after = list(statements(old)), list(statements(new))
    old_routines, new_routines = ({found for one in each if (found := routine(one))} for each in (before, after))
    for dropped in sorted(old_routines - new_routines, key=lambda one: one.signature):
        yield f"DROP {dropped.signature}"
    unchanged = set(before)
    for statement in after:
        if statement.startswith(_SEARCH_PATH):
            yield statement
            continue
        if statement in unchanged:
            continue
        view = _VIEW.match(statement)
        if routine(statement) in old_routines or (view and f"CREATE VIEW {view[1]} " in old):
            yield statement.replace("CREATE ", "CREATE OR REPLACE ", 1)
        elif routine(statement) is not None or view or statement.startswith(_REPEATED) or _is_new(statement, old):
            yield statement
        else:
            yield "\n".join(f"-- BY HAND {line}" for line in statement.splitlines())


def _is_new(statement: str, old: str) -> bool:
    """Return whether a statement concerns only an object that the old script lacks."""
    made = _CREATED.match(statement)
    name = made and (made["made"] or made["told"])
    return bool(name) and re.search(rf"(?<![\w.]){re.escape(name)}\b", old) is None


def main(old: Path, new: Path) -> None:
    """Print the draft."""
    for statement in draft(old.read_text("utf-8"), new.read_text("utf-8")):
        print(f"{statement}{'' if statement.startswith('--') else ';'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
