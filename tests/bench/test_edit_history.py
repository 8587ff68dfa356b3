"""What edits cost: characters embedded again by each chunker, over real revisions, against the paragraphs that changed.

Chunks are matched as the product does it, by hash as a multiset. No server and no clock: the figures are exact.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache

import pytest

from evergreen.prepare.chunkers import split_markdown, split_text
from evergreen.storage.documents import StoredChunk, diff
from tests.bench.revisions import Revision, repositories, revisions

SIZE = 800
AIM = 1.5

pytestmark = pytest.mark.bench

Chunker = Callable[[str], list[str]]


def paragraphs(text: str) -> list[str]:
    return [one for one in re.split(r"\n[ \t]*\n\s*", text) if one.strip()]


CHUNKERS: dict[str, Chunker] = {
    "changed paragraphs": paragraphs,
    "fixed windows": lambda text: [text[at : at + SIZE] for at in range(0, len(text), SIZE)],
    "whole documents": lambda text: [text],
    "embed_chunk_text": lambda text: split_text(text, SIZE),
    "embed_chunk_text, overlap 80": lambda text: split_text(text, SIZE, 80),
    "embed_chunk_markdown": lambda text: split_markdown(text, SIZE),
    "embed_chunk_markdown, context": lambda text: split_markdown(text, SIZE, context=True),
}


class Cost:
    """Characters embedded again, in all and of all there were; and the chunks."""

    def __init__(self, history: list[Revision], chunker: Chunker) -> None:
        self._cut = cache(chunker)
        self.again = sum(map(self._again, history))
        self.all = sum(len(revision.after) for revision in history)
        sizes = [len(chunk) for text in {text for pair in history for text in pair} for chunk in self._cut(text)]
        self.mean, self.most = sum(sizes) / max(1, len(sizes)), max(sizes, default=0)

    def _again(self, revision: Revision) -> int:
        before, after = self._hashes(revision.before), self._hashes(revision.after)
        stored = [StoredChunk(number, number, found) for number, found in enumerate(before)]
        wanted = self._cut(revision.after)
        return sum(len(wanted[number]) for number in diff(stored, after).add)

    def _hashes(self, text: str) -> list[bytes]:
        return [hashlib.sha256(chunk.encode("utf-8", "surrogatepass")).digest() for chunk in self._cut(text)]


def report(title: str, history: list[Revision]) -> dict[str, Cost]:
    costs = {name: Cost(history, chunker) for name, chunker in CHUNKERS.items()}
    paragraph, fixed, whole = (max(1, costs[name].again) for name in list(CHUNKERS)[:3])
    print(f"\n{title}: {len(history)} revisions, characters embedded again")
    print(f"  {'':32}{'of all':>9}{'paragraphs':>12}{'fixed':>8}{'whole':>8}{'mean':>8}{'most':>9}")
    for name, cost in costs.items():
        print(
            f"  {name:<32}{100 * cost.again / max(1, cost.all):>7.1f} %{cost.again / paragraph:>10.2f} x"
            f"{cost.again / fixed:>8.2f}{cost.again / whole:>8.2f}{cost.mean:>8.0f}{cost.most:>9}"
        )
    return costs


def test_edit_histories(capsys):
    histories = {"/".join(repository.parts[-2:]): revisions(repository) for repository in repositories()}
    with capsys.disabled():
        for name, history in histories.items():
            if len(histories) > 1 and history:
                report(name, history)
        every = [revision for history in histories.values() for revision in history]
        costs = report(f"all (aim for embed_chunk_markdown: {AIM} x, mean 400 or more)", every)
    assert every
    assert costs["embed_chunk_markdown"].most <= SIZE
    assert costs["embed_chunk_markdown"].again <= costs["fixed windows"].again
