"""Edits of a markdown document, at random but replayable: its blocks are put in, taken away, moved and changed."""

import random

from hypothesis import strategies as st

WORDS = ["row", "key", "lease", "chunk", "vector", "model", "drain", "claim", "page", "index", "tuple", "view", "batch"]
OPERATIONS = [
    *("put in", "put in again", "take away", "replace", "move"),
    *("add a line", "drop a line", "change a word"),
]


def _words(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def block(rng: random.Random) -> str:
    """A heading, a paragraph, a list, a table, code, or a paragraph that must be cut."""
    kind = rng.choice(["heading", "paragraph", "paragraph", "list", "table", "code", "long"])
    lines = range(rng.randint(1, 6))
    match kind:
        case "heading":
            return f"{'#' * rng.randint(1, 3)} {_words(rng, 4)}"
        case "list":
            return "\n".join(f"- {_words(rng, 12)}" for _ in lines)
        case "table":
            return "| a | b |\n|---|---|\n" + "\n".join(f"| {_words(rng, 5)} | {_words(rng, 5)} |" for _ in lines)
        case "code":
            return "```\n# no heading\n" + "\n".join(_words(rng, 8) for _ in lines) + "\n```"
        case "long":
            return ". ".join(_words(rng, 15) for _ in range(12)) + "."
        case _:
            return _words(rng, 40)


def document(seed: int, blocks: int = 30) -> list[str]:
    """The blocks of a document."""
    rng = random.Random(seed)
    return [block(rng) for _ in range(blocks)]


#: An edit: what is done, and the seed for where and with what.
edits = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2**32 - 1))


def edited(blocks: list[str], edit: tuple[str, int]) -> list[str]:
    """Do one edit; a document without blocks gets one."""
    operation, rng = edit[0], random.Random(edit[1])
    if not blocks:
        return [block(rng)]
    place = rng.randrange(len(blocks))
    rest = [*blocks[:place], *blocks[place + 1 :]]
    elsewhere = rng.randint(0, len(rest))
    match operation:
        case "take away":
            return rest
        case "put in":
            return [*blocks[:place], block(rng), *blocks[place:]]
        case "put in again":
            return [*blocks[:elsewhere], blocks[place], *blocks[elsewhere:]]
        case "move":
            return [*rest[:elsewhere], blocks[place], *rest[elsewhere:]]
        case "replace":
            new = block(rng)
        case _:
            new = _changed(blocks[place], operation, rng)
    return [*blocks[:place], new, *blocks[place + 1 :]]


def _changed(text: str, operation: str, rng: random.Random) -> str:
    """Change a line: an item, a row, a line of code, or the fence itself."""
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    if operation == "add a line":
        lines.insert(place, rng.choice(["- {}", "| {} | x |", "{}"]).format(_words(rng, 6)))
    elif operation == "drop a line":
        del lines[place]
    else:
        lines[place] = lines[place].replace(" ", f" {_words(rng, 1)} ", 1) or _words(rng, 3)
    return "\n".join(lines)
