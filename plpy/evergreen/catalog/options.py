"""Pipeline options and database settings: what there is, its default, and what it may be."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from evergreen import db
from evergreen.catalog import json_objects
from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen
from evergreen.core.text import quoted
from evergreen.db.errors import in_class
from evergreen.db.queries import load

SQL = load(__package__)
#: The value that resets an option of ``NULL_MEANS_OFF``.
DEFAULT = "default"
#: Options for which null is a value of its own: it turns off what the default has on.
NULL_MEANS_OFF = frozenset({"language"})
A = TypeVar("A")
B = TypeVar("B")
_SIZE = re.compile(r"\s*(\d{1,9})\s*(MB|GB|TB)\s*")  # see pg_size_bytes()
_FACTORS = {"MB": 1, "GB": 1 << 10, "TB": 1 << 20}
# Options that are intervals, with an example; those of 0 seconds make sense for the first alone.
_INTERVALS = {"previous_kept": "7 days"}
_POSITIVE_INTERVALS = {"max_lag": "1 minute", "batch_deadline": "24 hours"}
_LEAST_MB, _MOST_MB = 32, 64 << 20


@frozen
class Setting:
    """One setting of the database: its built-in value, and what it means."""

    default: str
    about: str


@frozen
class Option:
    """One option: its default, a check that says what is wrong with a value, or None, and what it means."""

    default: Any
    wrong: Callable[[Any], str | None]
    about: str


#: What embed_setting takes.
SETTINGS: dict[str, Setting] = {
    "default_model": Setting("wordllama-256", "the model of new pipelines and of embed() where none is named"),
    "cache_retention": Setting("30 days", "how long vectors of replaced and deleted texts stay in the cache"),
    "cache_limit": Setting("auto", "how many vectors the cache holds at most; auto: as many as there are live vectors"),
    "lease": Setting("5 minutes", "how long a worker may take between two steps; reading a source may take a fifth"),
    "watch": Setting("1 hour", "how often models behind an endpoint are compared with what they were; off: never"),
    "index_from": Setting("10000", "from how many chunks on a generation gets a vector index"),
}


def _one_of(*allowed: str) -> Callable[[Any], str | None]:
    return lambda v: None if v in allowed else f"must be one of {', '.join(allowed)}"


def _whole(low: int, high: int) -> Callable[[Any], str | None]:
    return lambda v: (
        None
        if isinstance(v, int) and not isinstance(v, bool) and low <= v <= high
        else f"must be a whole number from {low} to {high}"
    )


def _share(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0.1 <= value <= 0.9  # noqa: PLR2004
    return None if good else "must be a number from 0.1 to 0.9"


def _amount(low: float, high: float) -> Callable[[Any], str | None]:
    return lambda v: (
        None
        if isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high
        else f"must be a number from {low:g} to {high:g}"
    )


def _interval(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be an interval like '7 days'"  # check_intervals() asks Postgres


def _size(value: Any) -> str | None:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    good = found is not None and _LEAST_MB <= int(found[1]) * _FACTORS[found[2]] <= _MOST_MB
    return None if good else "must be a size from '32 MB' to '64 TB'"


def _switch(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _name(value: Any) -> str | None:
    good = isinstance(value, str) and value.strip() not in {"", "-"} and not value.isdigit()
    return None if good else "must be the name of a text search configuration like 'english'"  # see languages.check


#: What embed_create and embed_alter take.
PIPELINE: dict[str, Option] = {
    "on_too_long": Option(
        "fail",
        _one_of("fail", "truncate"),
        "a text longer than the model takes: fail makes the row a dead letter, truncate cuts the text",
    ),
    "max_attempts": Option(5, _whole(1, 1000), "how often a row may fail before it becomes a dead letter"),
    "live_share": Option(0.8, _share, "share of the texts sent that live changes get while a backfill runs, too"),
    "bulk_lane": Option(
        "backfill",
        _one_of("backfill", "live"),
        "the lane of a transaction that changes more than 1,000 rows; live: it is not held back by live_share",
    ),
    "daily_tokens": Option(None, _whole(1, 10**13), "tokens that the pipeline may use a day (UTC); null: no limit"),
    "daily_cost": Option(
        None,
        _amount(1e-6, 1.7e7),
        "what the pipeline may cost a day (UTC), in the unit of the model's price; null: no limit",
    ),
    "previous_kept": Option("7 days", _interval, "how long the previous generation is kept fresh after a promotion"),
    "max_lag": Option(
        None,
        _interval,
        "how long a live change may take until it is searchable; while one waits for longer, embed_status.state is"
        " late; null: no limit",
    ),
    "slot_limit": Option(
        "10 GB", _size, "WAL that the replication slot may retain with capture cdc, before it is dropped and made again"
    ),
    "on_model_change": Option(
        "stop",
        _one_of("stop", "warn"),
        "when another model is served under the model's name: stop writes no vector and lets changed rows wait, warn"
        " goes on",
    ),
    "backfill_via": Option(
        "requests",
        _one_of("requests", "batch"),
        "batch: history and rebuilds go through the batch API of the model's endpoint (its option batch_api), at its"
        " lower price, and may take hours; live changes never do",
    ),
    "batch_min_texts": Option(1000, _whole(1, 50_000), "fewer waiting texts than this go by requests"),
    "batch_deadline": Option(
        "24 hours", _interval, "how long history waits for a batch; then what is left goes by requests"
    ),
    "wakeup": Option(
        None, _switch, "writers wake sleeping workers by NOTIFY; null: on, if max_prepared_transactions is 0"
    ),  # None: on where no transaction can be prepared
    "language": Option(
        DEFAULT,
        _name,
        "text search configuration of keyword search and its index; default: the database's"
        " default_text_search_config; null: that, without an index",
    ),
}


#: What embed_create and embed_build take of a generation: its index.
GENERATION: dict[str, Option] = {
    "distance": Option("cosine", _one_of("cosine", "l2", "ip"), "distance of the vector index and of scores"),
    "storage": Option(
        "auto",
        _one_of("auto", "vector", "halfvec", "bit"),
        "type of the indexed vectors; auto: vector up to 2,000 dimensions, halfvec up to 4,000, bit beyond",
    ),
    "recall_target": Option(
        0.95,
        _amount(0.5, 1),
        "share of the ten nearest chunks that the vector index has to find; searches take the width that reaches it",
    ),
}


def merge(stored: dict[str, Any], given: str) -> dict[str, Any]:
    """Return options after merging a JSON object into them: null resets one, if it is not ``NULL_MEANS_OFF``.

    Raises UserError 22023.
    """
    changes = json_objects.parse(given, '{"max_attempts": 3}')
    merged = dict(stored)
    for name, value in changes.items():
        _check(name, value)
        merged.pop(name, None)
        if value != DEFAULT if name in NULL_MEANS_OFF else value is not None:
            merged[name] = value
    return merged


def of_generation(given: str | None) -> dict[str, Any]:
    """Return the options of a generation; raises UserError 22023."""
    found = json_objects.parse(given, '{"distance": "l2"}')
    for name, value in found.items():
        if name not in GENERATION:
            raise UserError(
                f'a generation has no option "{name}"', hint=f"Its options are: {', '.join(sorted(GENERATION))}."
            )
        _check_value(GENERATION, name, value)
    return {name: value for name, value in found.items() if value is not None}


def both(given: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a new pipeline and those of its first generation; raises UserError 22023."""
    found = json_objects.parse(given, '{"max_attempts": 3}')
    index = {name: value for name, value in found.items() if name in GENERATION}
    rest = {name: value for name, value in found.items() if name not in GENERATION}
    return merge({}, json.dumps(rest)), of_generation(json.dumps(index))


def _check(name: str, value: Any) -> None:
    if name in GENERATION:
        raise UserError(
            f'option "{name}" belongs to a generation',
            hint="It changes with a new one: embed_build('…', options => '{…}').",
        )
    if name not in PIPELINE:
        raise UserError(f'there is no option "{name}"', hint=f"Options are: {', '.join(sorted(PIPELINE))}.")
    _check_value(PIPELINE, name, value)


def _check_value(known: dict[str, Option], name: str, value: Any) -> None:
    if value is not None and (wrong := known[name].wrong(value)):
        reset = json.dumps(DEFAULT if name in NULL_MEANS_OFF else None)
        raise UserError(f'option "{name}" {wrong}, not {json.dumps(value)}', hint=f"{reset} resets it to its default.")


def effective(stored: dict[str, Any], name: str) -> Any:
    """Return an option's value, or its default."""
    return stored.get(name, PIPELINE[name].default)


def is_interval(value: str) -> bool:
    """Return whether it is an interval that is not negative."""
    try:
        return bool(db.atomically(lambda: db.value(SQL.check_interval, value)))
    except db.DatabaseError as error:
        if in_class(error, "22"):
            return False
        raise


def check_intervals(options: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline's options; raises UserError 22023 for an invalid interval."""
    for name, example in _INTERVALS.items():
        given = options.get(name)
        if given is not None and not is_interval(given):
            raise UserError(f'option "{name}" must be an interval, not "{given}"', hint=f"For example '{example}'.")
    for name, example in _POSITIVE_INTERVALS.items():
        given = options.get(name)
        if given is not None and not (is_interval(given) and interval_seconds(given) > 0):
            raise UserError(
                f'option "{name}" must be a positive interval, not "{given}"', hint=f"For example '{example}'."
            )
    return options


def interval_seconds(interval: str) -> float:
    """Return an interval in seconds."""
    return float(db.value(SQL.seconds, interval))


def check_runtime(interval: str | None) -> float:
    """Return max_runtime in seconds; raises 22023."""
    seconds = interval_seconds(interval) if interval is not None else -1.0
    if seconds <= 0:
        raise UserError(
            f"max_runtime must be a positive interval, not {quoted(interval)}", hint="'55 s' is the default."
        )
    return seconds


def seconds_of(name: str, interval: str | None, least: float, most: float, example: str) -> float:
    """Return an interval's seconds; raises 22023 where it is not from ``least`` to ``most`` of them."""
    seconds = interval_seconds(interval) if interval is not None else -1.0
    if not least <= seconds <= most:
        raise UserError(
            f"{name} must be an interval from {least:g} to {most:g} seconds, not {quoted(interval)}",
            hint=f"{example} is the default.",
        )
    return seconds


def flat_array(name: str, array: Sequence[A | None] | None, hint: str) -> list[A]:
    """Return an array argument as a list; raises 22004 for NULLs in it, 2202E for more than one dimension."""
    if array is None or any(one is None for one in array):
        raise UserError(f"{name} is NULL or contains a NULL", "22004", hint=hint)
    if any(isinstance(one, list) for one in array):
        raise UserError(f"{name} must have one dimension", "2202E", hint=hint)
    return [one for one in array if one is not None]


def paired_arrays(
    names: tuple[str, str], first: Sequence[A | None] | None, second: Sequence[B | None] | None, hint: str
) -> tuple[list[A], list[B]]:
    """Return two array arguments that belong together; raises 2202E where their lengths differ, see ``flat_array``."""
    left, right = flat_array(names[0], first, hint), flat_array(names[1], second, hint)
    if len(left) != len(right):
        raise UserError(f"there are {len(left)} {names[0]} and {len(right)} {names[1]}", "2202E", hint=hint)
    return left, right


def get(name: str) -> str:
    """Return a setting, stored or built in; needs the extension's rights."""
    stored = db.value(SQL.get, name)
    return str(stored) if stored is not None else SETTINGS[name].default
