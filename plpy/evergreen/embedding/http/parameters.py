"""Query parameters and headers that an endpoint adds to every request: checked when set, resolved when sent."""

import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

from evergreen.core.errors import ConfigurationError, UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Endpoint
from evergreen.embedding.http import credentials

_MOST = 20
_LONGEST = 1000
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")  # RFC 9110, 5.6.2
_PARAMETER = re.compile(r"[A-Za-z0-9._$~-]{1,100}\Z")
#: What the client sets itself, and what would change where a request ends or who reads it.
_RESERVED = frozenset(
    "accept accept-encoding connection content-encoding content-length content-type date expect host keep-alive te"
    " trailer transfer-encoding upgrade via openai-organization openai-project".split()
)
_HOLDS_A_KEY = re.compile(
    r"(?:key|token|secret|password|passwd|pwd|credentials?|authorization|auth|signature|cookie|jwt)\Z|\A(?:code|sig)\Z",
    re.IGNORECASE,
)
_IS_A_KEY = re.compile(r"(?:sk-|pk-|AIza|eyJ|Bearer\s|Basic\s)", re.IGNORECASE)
#: Azure OpenAI takes its keys in a header of its own where the deployment is part of the path.
_AZURE_DEPLOYMENT = re.compile(r"/openai/deployments/", re.IGNORECASE)
_AZURE_HEADER = "api-key"
_ACCOUNT = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}


@frozen
class Resolved:
    """What one request carries. ``keys``: every form of a secret in it, which no message may repeat."""

    headers: dict[str, str]
    query: str
    keys: tuple[str, ...]


def split_url(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its query string, and that as parameters; raises UserError, which never repeats a value."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        pairs, parts = [("", "")], urlsplit("")
    if any(not _is_parameter(name) for name, _ in pairs) or len(dict(pairs)) != len(pairs):
        raise UserError(
            "the query string of the URL is not a list of name=value with distinct names",
            hint='Pass it as an option: options => \'{"query": {"api-version": "2024-02-01"}}\'.',
        )
    return (urlunsplit(parts._replace(query="")) if parts.query else url), dict(pairs)


def merged(options: dict[str, Any], from_url: dict[str, str]) -> dict[str, Any]:
    """Return options with the parameters of a pasted URL; raises UserError where both name one and differ."""
    if not from_url:
        return options
    given = options.get("query", {})
    for name, value in from_url.items():
        if isinstance(given, dict) and given.get(name, value) != value:  # pyright: ignore[reportUnknownMemberType]
            raise UserError(f'query parameter "{name}" is in the URL and in the option "query"', hint="Give it once.")
    return {**options, "query": {**from_url, **given}}


def check(url: str, secret: str | None, options: dict[str, Any]) -> None:
    """Check the options ``query`` and ``headers``; raises UserError, which never repeats a value."""
    for name, value in options.get("query", {}).items():
        if not _is_parameter(name):
            raise UserError('a name in the option "query" is not one', hint="Use letters, digits and . _ $ ~ -.")
        _check_value("query", "query parameter", name, value)
    seen: set[str] = set()
    for name, value in options.get("headers", {}).items():
        _check_header(name, seen)
        _check_value("headers", "header", name, value)
    key_header = header_of_secret(url).lower()
    if secret is not None and key_header in seen:
        raise UserError(
            f'the option "headers" has "{key_header}", which is where secret is sent',
            hint="Leave out one of the two: secret => NULL, or the header.",
        )


def is_object(value: Any) -> bool:
    """Return whether it is a JSON object of at most 20 names."""
    return isinstance(value, dict) and len(cast("dict[str, Any]", value)) <= _MOST


def _is_parameter(name: str) -> bool:
    return _PARAMETER.match(name) is not None and not _IS_A_KEY.match(name)


def _check_header(name: str, seen: set[str]) -> None:
    if not _TOKEN.match(name) or _IS_A_KEY.match(name):
        raise UserError('a name in the option "headers" is not that of a header', hint='For example "X-Tenant".')
    lower = name.lower()
    if lower in _RESERVED or lower.startswith("proxy-"):
        hint = "Remove it: evergreen sets it itself."
        if lower.startswith("openai-"):
            hint = f'Use the option "{lower.removeprefix("openai-")}".'
        raise UserError(f'header "{name}" cannot be set', hint=hint)
    if lower in seen:
        raise UserError(f'header "{name}" is given twice', hint="Upper and lower case make no difference in headers.")
    seen.add(lower)


def _check_value(option: str, what: str, name: str, value: Any) -> None:
    if isinstance(value, dict):
        _check_reference(what, name, cast("dict[str, Any]", value))
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number and not _is_text(value, ascii_only=option == "headers"):
        raise UserError(
            f'{what} "{name}" cannot have this value',
            hint=f'It is one line of at most {_LONGEST} printable characters, or {{"secret": "name"}}.',
        )
    if _HOLDS_A_KEY.search(name) or _IS_A_KEY.match(str(value)):
        raise UserError(
            f'{what} "{name}" looks like a key, which must not be stored in the database',
            hint=f"Put the key into a file in {credentials.DIRECTORY} and pass that file's name:"
            f' options => \'{{"{option}": {{"{name}": {{"secret": "name_of_the_file"}}}}}}\'.',
        )


def _check_reference(what: str, name: str, value: dict[str, Any]) -> None:
    named = value.get("secret")
    if set(value) != {"secret"} or not isinstance(named, str) or not credentials.is_name(named):
        # It may be the key itself: never repeat it.
        raise UserError(
            f'{what} "{name}" must be a text or {{"secret": "name"}}, with the name of a secret and not its value',
            hint=f"Put the key into a file in {credentials.DIRECTORY} and pass that file's name.",
        )


def _is_text(value: Any, *, ascii_only: bool) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        return False
    return value.isascii() and value == value.strip() if ascii_only else not re.search("[\ud800-\udfff]", value)


def account_headers(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers that say which of OpenAI's accounts pays."""
    return {header: str(endpoint.options[o]) for o, header in _ACCOUNT.items() if o in endpoint.options}


def header_of_secret(url: str) -> str:
    """Return the header in which an endpoint's own secret is sent."""
    return _AZURE_HEADER if _AZURE_DEPLOYMENT.search(urlsplit(url).path) else "Authorization"


def secret_names(endpoint: Endpoint) -> list[str]:
    """Return the names of all secrets that requests to an endpoint need."""
    own = [endpoint.secret] if endpoint.secret is not None else []
    return list(dict.fromkeys([*own, *_references(endpoint)]))


def _references(endpoint: Endpoint) -> Iterator[str]:
    for option in ("headers", "query"):
        for value in endpoint.options.get(option, {}).values():
            if isinstance(value, dict):
                yield cast("dict[str, str]", value)["secret"]


def problem(endpoint: Endpoint) -> tuple[str, credentials.Remedy] | None:
    """Return why the first of an endpoint's secrets cannot be read, and the remedy; else None."""
    for name in secret_names(endpoint):
        try:
            credentials.value(name)
        except ConfigurationError as error:
            return str(error), credentials.remedy(name)
    return None


def resolve(endpoint: Endpoint, key_header: str | None = None) -> Resolved:
    """Read the secrets and return what a request carries; raises ConfigurationError.

    ``key_header``: where the endpoint's own secret goes, unless it is where it usually does.
    """
    values = {name: credentials.value(name) for name in secret_names(endpoint)}

    def of(option: str) -> dict[str, str]:
        given: dict[str, Any] = endpoint.options.get(option, {})
        return {name: values[v["secret"]] if isinstance(v, dict) else str(v) for name, v in given.items()}

    headers, query = of("headers"), of("query")
    if endpoint.secret is not None:
        name = key_header or header_of_secret(endpoint.url)
        headers[name] = ("Bearer " if name == "Authorization" else "") + values[endpoint.secret]
    encoded = {quote_plus(value) for value in values.values()}
    return Resolved(headers, urlencode(query), tuple({*values.values(), *encoded}))
