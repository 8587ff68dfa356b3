"""Reference of errors and warnings: every message in the code, with what to do about it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from evergreen_host.errors import EvergreenError
from tools.code import PLACEHOLDER, argument, calls, name_of, text_of
from tools.paths import HOST, ROOT, SERVER
from tools.reference.cures import CURES
from tools.reference.markdown import code, page, table

INTRODUCTION = """\
Every error and warning of Evergreen, by message, with its cure. `…` stands for a name or value. Most messages carry the cure
themselves, as a HINT that you can type. If you have a symptom and no message, see
[troubleshooting](../how-to/troubleshooting.md)."""
CALLS = """\
A call that cannot be done fails with one of these, and changes nothing. The SQLSTATE is that of its class in PostgreSQL."""
MODELS = """\
These are not errors of a call. A row that cannot be embedded waits or becomes a dead letter, and the message is in
`embed_status.last_error`, `embed_failures.message` and `embed_explain`. Rows wait without losing an attempt while an endpoint is
down or misconfigured. They are retried automatically, and `embed_retry` retries them at once."""
WARNINGS = """\
A call that raises one of these was done."""
COMMANDS = """\
A command prints its message and a hint to standard error, and sets its [exit code](cli.md#exit-codes)."""
DOCTOR = """\
`evergreen doctor` prints these, each with the statement or command that mends it."""

_MODEL_ERRORS = re.compile(
    r"(Retryable|CircuitOpen|Rejected|Suspect|InvalidVector|Poison|Configuration|Source|SlowSource)Error"
)
_RAISE = re.compile(r"RAISE (EXCEPTION|WARNING) '((?:[^']|'')*)'(.*?);\n", re.DOTALL)
_HINT = re.compile(r"HINT\s*=\s*(?:[\w.]+\()?(?:cure, )?'((?:[^']|'')*)'", re.DOTALL)
_CODE = re.compile(r"ERRCODE\s*=\s*'(\w+)'")
_SQLSTATES = {"insufficient_privilege": "42501", "serialization_failure": "40001"}
_STATEMENT = re.compile(r"(?:SELECT|ALTER|CREATE|GRANT|CALL|SET|DROP|REVOKE|REINDEX|evergreen) [^;]*;?$")
_MARKUP = re.compile(r"[\\*<`\[\]]|(?<!\w)_|_(?!\w)")
_PARAMETER = re.compile(r"%(?:\d\$)?[IsL]?")
_WORDS = re.compile(r"\w{3}")
_IN_HINT = "The HINT says what to type."
_INTERNAL = {"undone"}  # is caught where it is raised
_SHORTEST = 4


@dataclass(frozen=True, order=True)
class Message:
    """A message, its SQLSTATE if it has one, and what to do about it."""

    text: str
    cure: str
    sqlstate: str = ""


class NoCureError(Exception):
    """A message does not say what to do: give it a HINT, or an entry in tools/reference/cures.py."""


def _message(text: str | None, hint: str | None, sqlstate: str = "") -> Iterator[Message]:
    if text is None or len(text.replace(PLACEHOLDER, "").strip()) < _SHORTEST or text in _INTERNAL:
        return
    cure = CURES.get(text) or hint
    if not cure:
        raise NoCureError(text)
    yield Message(text, cure, sqlstate)


def _hint(node: ast.expr | None) -> str | None:
    """Return a hint as written; where it is put together, that there is one."""
    if node is None or (isinstance(node, ast.Constant) and not node.value):
        return None
    text = text_of(node)
    return text if text and _WORDS.search(text) else _IN_HINT


def of_calls() -> Iterator[Message]:
    """Yield what functions raise for their caller."""
    for _, call in calls(SERVER):
        if name_of(call.func) == "UserError":
            sqlstate = text_of(argument(call, 1, "sqlstate")) or "22023"
            yield from _message(text_of(argument(call, 0, "message")), _hint(argument(call, 2, "hint")), sqlstate)
    yield from (message for level, message in _raised() if level == "EXCEPTION")


def of_models() -> Iterator[Message]:
    """Yield why rows wait or fail."""
    for _, call in calls(SERVER):
        if _MODEL_ERRORS.fullmatch(name_of(call.func)) and call.args:
            yield from _message(text_of(call.args[0]), None)


def warnings() -> Iterator[Message]:
    """Yield the warnings of calls."""
    for _, call in calls(SERVER):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "warning" and name_of(call.func.value) == "db":
            yield from _message(text_of(argument(call, 0, "message")), _hint(argument(call, 1, "hint")))
    yield from (message for level, message in _raised() if level == "WARNING")


def _raised() -> Iterator[tuple[str, Message]]:
    """Yield level and message of each RAISE in the extension's SQL."""
    for path in sorted((ROOT / "extension" / "sql").rglob("*.sql")):
        for level, text, rest in _RAISE.findall(path.read_text("utf-8")):
            hint = _HINT.search(rest)
            sqlstate = _CODE.search(rest)
            shown = _PARAMETER.sub(PLACEHOLDER, hint[1].replace("''", "'")).strip() if hint else None
            if shown is not None and shown.count("(") != shown.count(")"):
                shown = _IN_HINT  # goes on after a value
            for message in _message(
                _PARAMETER.sub(PLACEHOLDER, text.replace("''", "'")),
                shown,
                _SQLSTATES.get(sqlstate[1], sqlstate[1]) if sqlstate else "",
            ):
                yield level, message


def of_commands() -> Iterator[Message]:
    """Yield the errors of the command line."""
    names = {"EvergreenError", *(kind.__name__ for kind in EvergreenError.__subclasses__())}
    for _, call in calls(HOST):
        if name_of(call.func) in names:
            yield from _message(text_of(argument(call, 0, "message")), _hint(argument(call, 1, "hint")))


def of_doctor() -> Iterator[Message]:
    """Yield the findings of evergreen doctor."""
    for _, call in calls(HOST):
        if name_of(call.func) == "Finding":
            advice = argument(call, 3, "advice")
            shown = text_of(advice) if advice is not None else "The message says what to do."
            shown = shown if shown and _WORDS.search(shown) else "Type what doctor prints."
            yield from _message(text_of(argument(call, 2, "message")), shown)


def _table(messages: Iterator[Message]) -> str:
    found = sorted(set(messages))
    if any(message.sqlstate for message in found):
        head = ("message", "SQLSTATE", "cure")
        return table(head, ((code(one.text), one.sqlstate, _cure(one)) for one in found))
    return table(("message", "cure"), ((code(one.text), _cure(one)) for one in found))


def _cure(message: Message) -> str:
    """Return a cure for a table: a statement is code, and a HINT in prose is no markup."""
    if message.text in CURES:
        return message.cure
    return code(message.cure) if _STATEMENT.match(message.cure) else _MARKUP.sub(r"\\\g<0>", message.cure)


def render() -> str:
    """Return the page; raises NoCureError."""
    return page(
        "Errors and warnings", INTRODUCTION,
        "## Errors of calls", CALLS, _table(of_calls()),
        "## Why rows wait or fail", MODELS, _table(of_models()),
        "## Warnings", WARNINGS, _table(warnings()),
        "## Errors of commands", COMMANDS, _table(of_commands()),
        "## Findings of evergreen doctor", DOCTOR, _table(of_doctor()),
    )  # fmt: skip
