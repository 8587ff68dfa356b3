"""Vectors that an index in half precision cannot hold: PostgreSQL would refuse the whole batch, or never find them."""

import numpy as np

from evergreen.apply.vectors import Known, floats
from evergreen.catalog import models
from evergreen.errors import RejectedError
from evergreen.generations import index
from evergreen.prepare.documents import Document
from evergreen.schedule.claim import Claim

_LARGEST = float(np.finfo(np.float16).max)


def reject_unfit(claim: Claim, documents: list[Document], vectors: dict[bytes, Known]) -> dict[str, RejectedError]:
    """Take out vectors that do not fit the generation's index; return the error of each document that has one."""
    if not documents or index.of(claim.generation, models.vector_schema()).storage != "halfvec":
        return {}
    needed = {key for document in documents for key, _ in document.chunks if key in vectors}
    unfit = {key: wrong for key in needed if (wrong := _wrong(vectors[key])) is not None}
    for key in unfit:
        del vectors[key]
    return {
        document.key: RejectedError(f"model {claim.generation.model.name} gave {unfit[key]}")
        for document in documents
        for key, _ in document.chunks
        if key in unfit
    }


def _wrong(vector: Known) -> str | None:
    largest = float(np.abs(floats(vector)).max())
    if largest > _LARGEST:
        return (
            f"a number of {largest:.3g} for a text: the index is in half precision, which ends at {_LARGEST:g};"
            ' embed_build() with options => \'{"storage": "bit"}\' makes another'
        )
    if largest > 0.0 and float(np.float16(largest)) == 0.0:
        return "only numbers for a text that half precision, in which the index is, takes for zero"
    return None
