"""Functions for `evergreen ray` to embed with: the loopback model's vectors, with a note of who embedded what."""

import os
import time
from pathlib import Path

from provider import vector


def noting(model: str):
    """Notes each text with the process's id in EVERGREEN_NOTES; holds still while there is a file ``hold`` in it."""
    notes = Path(os.environ["EVERGREEN_NOTES"])

    def embed(texts: list[str]) -> list[list[float]]:
        (notes / f"busy {os.getpid()}").touch()
        while (notes / "hold").exists():
            time.sleep(0.02)  # another process, which no condition of the test can wake
        with (notes / f"done {os.getpid()}").open("a") as file:
            file.writelines(f"{text!r}\n" for text in texts)
        (notes / f"busy {os.getpid()}").unlink()
        return [vector(text, 8) for text in texts]

    return embed


def poisoned(model: str):
    """Refuses a batch with a certain word in it."""

    def embed(texts: list[str]) -> list[list[float]]:
        if any("poison" in text for text in texts):
            raise ValueError("cannot embed this")
        return [vector(text, 8) for text in texts]

    return embed


def broken(model: str):
    """Refuses everything."""
    raise RuntimeError("no GPU here")
