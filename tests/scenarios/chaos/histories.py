"""What each writer does, drawn from a seed alone: the same seed gives the same histories, whatever the others do."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Key = tuple[Any, ...]

READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE = "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"
LEVELS = [READ_COMMITTED] * 6 + [REPEATABLE_READ] * 2 + [SERIALIZABLE] * 2

PLAIN_KEYS = 40
TENANTS, TENANT_KEYS = "abc", 14
COMMON = 25  # texts that stand in several rows
POISONS = 6  # texts that the model's server fails on, whatever else is in the request

ON_ONE_ROW = {
    "insert": 6, "upsert": 16, "body": 24, "title": 6, "unwatched": 10, "no-op": 8, "revert": 8, "key change": 10,
    "delete": 8, "show": 6,
}  # fmt: skip
ON_MANY = {"truncate": 2, "truncate a partition": 2, "fill": 6, "bulk": 6}
MANY_SHARE = 0.02


@dataclass(frozen=True)
class Step:
    """One thing to do; which statements that takes is the writer's business."""

    op: str
    table: str
    key: Key = ()
    other: Key = ()  # the new key of a key change
    text: str | None = None
    savepoint: str | None = None  # done under one, which is then released or undone
    pause: float = 0.0  # seconds to keep what is locked


@dataclass(frozen=True)
class Transaction:
    """Steps in the order of their keys, so that no two writers can wait for each other."""

    level: str | None  # None: one statement by itself
    steps: tuple[Step, ...]
    commits: bool = True
    pause: float = 0.0  # seconds until it begins

    @property
    def ops(self) -> set[str]:
        """What is done in it."""
        return {step.op for step in self.steps}


@dataclass(frozen=True)
class Style:
    """How writers share the rows: ``apart``, each has its own keys and none locks a table."""

    writers: int
    apart: bool = False


def history(seed: str, number: int, style: Style) -> Iterator[Transaction]:
    """Yield the transactions of a writer, without end."""
    chance = random.Random(f"{seed} writer {number}")
    texts = _texts(chance, number)
    while True:
        pause = chance.random() * 0.02
        if not style.apart and chance.random() < MANY_SHARE:
            yield _on_many(chance, next(texts), pause)
        elif chance.random() < 0.5:
            yield Transaction(None, tuple(_steps(chance, texts, _keys(chance, number, style, 1))), pause=pause)
        else:
            yield _block(chance, texts, _keys(chance, number, style, chance.randint(1, 5)), pause)


def _on_many(chance: random.Random, text: str | None, pause: float) -> Transaction:
    op = _one_of(chance, ON_MANY)
    table = "parts" if op == "truncate a partition" else chance.choice(["plain", "parts"])
    level = chance.choice(LEVELS) if chance.random() < 0.5 else None
    return Transaction(level, (Step(op, table, text=text),), level is None or chance.random() < 0.7, pause)


def _block(
    chance: random.Random, texts: Iterator[str | None], keys: list[tuple[str, Key]], pause: float
) -> Transaction:
    is_long = chance.random() < 0.06
    steps = []
    for step in _steps(chance, texts, keys):
        savepoint = {0: "released", 1: "undone"}.get(chance.randrange(6))
        wait = chance.random() * 0.3 if is_long else 0.0
        steps.append(Step(step.op, step.table, step.key, step.other, step.text, savepoint, wait))
    return Transaction(chance.choice(LEVELS), tuple(steps), chance.random() < 0.85, pause)


def _steps(chance: random.Random, texts: Iterator[str | None], keys: list[tuple[str, Key]]) -> Iterator[Step]:
    left = sorted(set(keys), reverse=True)
    while left:
        table, key = left.pop()
        op = _one_of(chance, ON_ONE_ROW)
        if op != "key change":
            yield Step(op, table, key, text=next(texts))
        elif left and left[-1][0] == table:
            yield Step(op, table, key, left.pop()[1])
        else:
            yield Step(op, table, key, (*key[:-1], key[-1] + 1000))


def _keys(chance: random.Random, number: int, style: Style, count: int) -> list[tuple[str, Key]]:
    """Draw a few keys, in both tables; ``apart``, only those of this writer."""
    found: list[tuple[str, Key]] = []
    while len(found) < count:
        if chance.random() < 0.5:
            table, key = "plain", (chance.randrange(PLAIN_KEYS),)
        else:
            table, key = "parts", (chance.choice(TENANTS), chance.randrange(TENANT_KEYS))
        if style.apart:
            key = (*key[:-1], key[-1] * style.writers + number)
        found.append((table, key))
        if chance.random() < 0.3 and len(found) < count:
            found.append((table, (*key[:-1], key[-1] + style.writers)))
    return found


def _texts(chance: random.Random, number: int) -> Iterator[str | None]:
    """Yield texts: common ones, new ones, long ones (kept out of line), none, and one without a letter in it."""
    made = 0
    while True:
        made += 1
        dice = chance.random()
        if dice < 0.4:
            yield f"common {chance.randrange(COMMON)}"
        elif dice < 0.9:
            yield f"wörds of {number}, {made}"
        elif dice < 0.905:
            yield f"poison {chance.randrange(POISONS)}"
        elif dice < 0.94:
            yield f"long of {number}, {made}: " + "".join(chance.choices("abcdef ghij", k=3000))
        else:
            yield None if dice < 0.98 else "  "


def _one_of(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
