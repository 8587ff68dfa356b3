"""Pictures of how it works: the way of a change, and the states of a generation."""

from tools.figures.svg import FILL, LINE, SOFT, Picture

_STAGES = (
    ("capture", "a trigger, or the WAL:", "the key goes to", "the change log"),
    ("queue", "one job per row;", "a worker claims it", "with a lease"),
    ("prepare", "read as the owner,", "cut into chunks,", "compare source hashes"),
    ("embedding", "only unknown text,", "in batches, within", "limits and budgets"),
    ("storage", "one transaction:", "vectors and their", "fingerprints"),
)


def flow() -> str:
    """The stages that a change goes through."""
    picture = Picture(980, 190, "A change goes through capture, queue, prepare, embedding and storage")
    for number, (name, *lines) in enumerate(_STAGES):
        left = 10 + 195 * number
        picture.box(left, 40, 165, 105, name, *lines)
        if number:
            picture.arrow((left - 29, 92), (left - 2, 92))
    for left, right, words in (
        (10, 175, "in the writer's transaction"),
        (205, 955, "by workers; no transaction is open while the model works"),
    ):
        picture.parts.append(f"<path d='M{left} 160v8H{right}v-8' fill='none' stroke='{LINE}'/>")
        picture.text((left + right) / 2, 184, words, size=12, color=SOFT, anchor="middle")
    picture.text(10, 24, "your UPDATE", size=13, color=SOFT)
    picture.text(955, 24, "searchable", size=13, color=SOFT, anchor="end")
    return picture.render()


def generations() -> str:
    """The states of a generation, and the calls between them."""
    picture = Picture(
        900,
        250,
        "A generation is built, promoted to active, then previous, then retired; a rollback makes it active again",
    )
    boxes = (
        ("building", "filled by workers,", "compared"),
        ("active", "answers every", "search"),
        ("previous", "kept fresh for", "previous_kept"),
        ("retired", "its vectors", "are dropped"),
    )
    for number, (name, *lines) in enumerate(boxes):
        picture.box(20 + 225 * number, 90, 150, 80, name, *lines, color=FILL)
    for number, call in enumerate(("embed_promote", "next promotion", "embed_retire")):
        start = 172 + 225 * number
        picture.arrow((start, 130), (start + 70, 130))
        picture.text(start + 36, 78, call, size=12, color=SOFT, anchor="middle")
    picture.arrow((545, 88), (545, 50), (320, 50), (320, 88))
    picture.text(432, 42, "embed_rollback, at once", size=12, color=SOFT, anchor="middle")
    picture.text(20, 60, "embed_build", size=12, color=SOFT)
    picture.arrow((60, 66), (60, 88))
    picture.arrow((95, 172), (95, 225), (770, 225), (770, 172))
    picture.text(432, 218, "embed_retire of a generation that is being built", size=12, color=SOFT, anchor="middle")
    return picture.render()
