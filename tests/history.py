"""What must be true of a pipeline over docs(id, title, body, n), kept in memory beside a random history of it."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import pytest
from provider import LoopbackProvider, vector

Connection = psycopg.Connection[Any]
Content = tuple[str | None, str | None]  # title and body

BAD = "bad"  # a text with this word is refused while the model is told to
_CANARY = "evergreen"

MISS = "ALTER EVENT TRIGGER evergreen_follow_ddl DISABLE; ALTER TABLE docs DISABLE TRIGGER ALL"
MIND = "ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS; ALTER TABLE docs ENABLE TRIGGER ALL"


def text_of(content: Content) -> str:
    """The text that columns => '{title,body}' makes; no two contents make the same, but those without text."""
    text = "\n\n".join(part for part in content if part is not None)
    return "" if text.isspace() else text


@dataclass
class History:
    """Rows as they are, texts as they were, and what has been paid for."""

    rows: dict[int, Content] = field(default_factory=dict)
    had: dict[int, set[str]] = field(default_factory=dict)  # every text that a row of this key has had
    paid: set[str] = field(default_factory=set)  # their vectors are there: never to be sent again
    forgotten: set[str] = field(default_factory=set)  # of these nobody knows
    excused: set[int] = field(default_factory=set)  # rows that no work needs to make fresh before they change

    def write(self, db: Connection, kind: str, key: int, other: int, content: Content) -> None:
        """Do one statement in the database and here."""
        before = self.rows.get(key)
        match kind:
            case "insert" if before is None:
                db.execute("INSERT INTO docs (id, title, body) VALUES (%s, %s, %s)", (key, *content))
                self.rows[key] = content
            case "update" if before is not None:
                db.execute("UPDATE docs SET title = %s, body = %s WHERE id = %s", (*content, key))
                self.rows[key] = content
            case "upsert":
                upsert = "ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, body = EXCLUDED.body"
                db.execute(f"INSERT INTO docs (id, title, body) VALUES (%s, %s, %s) {upsert}", (key, *content))
                self.rows[key] = content
            case "save":
                db.execute("UPDATE docs SET title = title, body = body, n = n + 1 WHERE id = %s", (key,))
            case "delete":
                db.execute("DELETE FROM docs WHERE id = %s", (key,))
                self.rows.pop(key, None)
            case "rekey" if before is not None and other + 10 not in self.rows:
                other += 10 if other in self.rows else 0
                db.execute("UPDATE docs SET id = %s WHERE id = %s", (other, key))
                self.rows[other] = self.rows.pop(key)
            case "truncate":
                db.execute("TRUNCATE docs")
                self.rows.clear()

    def committed(self, before: dict[int, Content], *, captured: bool) -> None:
        """Note what a transaction has changed; ``captured``: the triggers were there."""
        for key in before.keys() | self.rows.keys():
            if key in self.rows:
                self.had.setdefault(key, set()).add(text_of(self.rows[key]))
            if before.get(key) != self.rows.get(key):
                self.excused.discard(key)
                if not captured:
                    self.excused.add(key)

    def texts(self, *, without_excused: bool = False) -> set[str]:
        """The texts that rows have now."""
        left_out = self.excused if without_excused else set()
        return {text_of(content) for key, content in self.rows.items() if key not in left_out} - {""}

    def shown(self, db: Connection) -> dict[int, str]:
        """What the view shows, which is never wrong: its rows exist, are stale if they say so, and had that text."""
        found: dict[int, str] = {}
        for key, chunk, embedding, is_stale in db.execute(
            "SELECT id, chunk, embedding::text, is_stale FROM docs_embedding"
        ).fetchall():
            assert key not in found, f"row {key} is shown twice"
            assert key in self.rows, f"row {key} is an orphan"
            assert is_stale == (chunk != text_of(self.rows[key])), (
                f"row {key} says it is {'stale' if is_stale else 'fresh'}"
            )
            assert chunk in self.had[key], f"row {key} never had {chunk!r}"
            assert orjson.loads(embedding) == pytest.approx(vector(chunk, 8)), f"the vector of {key} is of another text"
            found[key] = chunk
        return found

    def assert_fresh(self, db: Connection) -> None:
        """Every row is shown as it is, but those that are excused."""
        shown = self.shown(db)
        for key, content in self.rows.items():
            if key not in self.excused:
                assert shown.get(key, "") == text_of(content), f"row {key} is not fresh"


class Clerk:
    """Answers for the provider, and knows which texts it gave vectors for since it was last asked."""

    def __init__(self, provider: LoopbackProvider) -> None:
        self.is_down = False
        self.refuses = False
        self._answered: list[str] = []
        provider.answer = self._answer

    def _answer(self, texts: list[str]) -> tuple[int, bytes] | None:
        if self.is_down:
            return 503, b"down"
        if self.refuses and any(BAD in text for text in texts):
            return 400, b"refused"
        self._answered += [text for text in texts if text != _CANARY]
        return None

    def answered(self) -> list[str]:
        """What was paid for since the last call."""
        answered, self._answered = self._answered, []
        return answered
