"""Pipelines and their generations, as the catalog has them."""

import json
from dataclasses import dataclass
from typing import Any

from evergreen import db, journal
from evergreen.catalog import models
from evergreen.errors import UserError, shown
from evergreen.model.spec import Model
from evergreen.queries import load

SQL = load(__file__)


@dataclass(frozen=True)
class Generation:
    """One (model, text preparation, chunker) of a pipeline: one vector space."""

    id: int
    pipeline: int
    known_model: Model | None  # None where a restore left its row out
    columns: tuple[str, ...] | None
    template: str | None
    chunker: dict[str, Any]
    watched: tuple[tuple[int, str], ...]  # (attnum, name)
    state: str
    options: dict[str, Any]

    @property
    def model(self) -> Model:
        """The model of its vectors; raises UserError 55000 where a restore left its row out."""
        if self.known_model is None:
            raise UserError(
                f"the model of generation {self.id} is missing from embed.model",
                "55000",
                hint="SELECT pipeline, last_error FROM embed_status; says what to do.",
            )
        return self.known_model

    @property
    def table(self) -> str:
        """The generation table, qualified."""
        return f"embed_store.g{self.id}"

    @property
    def readable(self) -> str:
        """The parent of the generation table, qualified: what the view reads, under row security."""
        return f"embed_store.readable_{self.id}"


@dataclass(frozen=True)
class Pipeline:
    """One source table that is kept embedded."""

    id: int
    name: str
    source: int
    source_name: str | None  # quoted and qualified; None when the table is gone
    key: tuple[tuple[int, str, str], ...]  # (attnum, name, base type)
    only_if: tuple[int, str] | None
    capture: str
    triggers: bool  # they capture, be it until the WAL is read
    state: str
    broken_reason: str | None
    bound_name: str  # the source's name for which the functions were made
    view: int | None
    options: dict[str, Any]
    seen: tuple[int, int, int]  # system identifier, database, source
    owner: int | None
    generations: tuple[Generation, ...]
    torn: tuple[str, str] | None  # what it refers to and is not there, and what to do

    @property
    def active(self) -> Generation:
        """The generation that searches see; raises UserError 55000 where a restore left it out."""
        if not self.generations or self.generations[0].state != "active":
            self.check_whole()
        return self.generations[0]

    def check_whole(self) -> None:
        """Raise UserError 55000 where the pipeline refers to what is not there."""
        if self.torn is not None:
            what, remedy = self.torn
            raise UserError(
                f'pipeline "{self.name}" is not whole: {what}', "55000", hint=f"{remedy[0].upper()}{remedy[1:]}."
            )

    @property
    def building(self) -> Generation | None:
        """The generation that may be promoted."""
        return next((g for g in self.generations if g.state == "building"), None)

    @property
    def previous(self) -> tuple[Generation, ...]:
        """The generations that were active, the last one first."""
        return tuple(g for g in self.generations if g.state == "previous")


def _generation(row: db.Row) -> Generation:
    return Generation(
        id=row["id"],
        pipeline=row["pipeline"],
        known_model=models.by_id(row["model"]),
        columns=tuple(row["columns"]) if row["columns"] is not None else None,
        template=row["template"],
        chunker=json.loads(row["chunker"]),
        watched=tuple(zip(row["watched_attnums"], row["watched_names"], strict=True)),
        state=row["state"],
        options=json.loads(row["options"]),
    )


def _pipeline(row: db.Row) -> Pipeline:
    return Pipeline(
        id=row["id"],
        name=row["name"],
        source=row["source"],
        source_name=row["source_name"],
        key=tuple(zip(row["key_attnums"], row["key_names"], row["key_types"], strict=True)),
        only_if=(row["only_if_attnum"], row["only_if"]) if row["only_if"] is not None else None,
        capture=row["capture"],
        triggers=row["triggers"],
        state=row["state"],
        broken_reason=row["broken_reason"],
        bound_name=row["bound_name"],
        view=row["view"],
        options=json.loads(row["options"]),
        seen=(row["system_identifier"], row["database_oid"], row["source_oid"]),
        owner=row["owner"],
        generations=tuple(_generation(g) for g in db.rows(SQL.generations, row["id"])),
        torn=(row["torn"], row["remedy"]) if row["torn"] is not None else None,
    )


def find(name: str) -> Pipeline | None:
    """Find a pipeline by name."""
    row = db.one(SQL.find, name, None)
    return _pipeline(row) if row else None


def by_id(number: int) -> Pipeline | None:
    """Find a pipeline by id."""
    row = db.one(SQL.find, None, number)
    return _pipeline(row) if row else None


def say_torn() -> None:
    """Write to the log which pipelines refer to what is not there: no worker can do anything about it."""
    for row in db.rows(SQL.torn):
        journal.warn("pipeline_not_whole", pipeline=row["name"], reason=row["what"], remedy=row["remedy"])


def every() -> list[int]:
    """Return the ids of all pipelines."""
    return [row["id"] for row in db.rows(SQL.all_ids)]


def missing(name: str | None) -> UserError:
    """Build the error for a pipeline that is not there, or that the caller may not know of."""
    return UserError(
        f"pipeline {shown(name)} does not exist",
        "42704",
        hint="SELECT pipeline FROM embed_pipelines lists those you may use.",
    )
