"""What a check has found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: ``message``: a sentence; ``advice`` is what to type, SQL or a shell command.

    An error keeps embeddings from becoming fresh, or will; a warning is worth knowing. Advice is SQL or, ``in_shell``,
    a command for a shell on the server's machine. Without advice nothing is to be typed: the sentence says what to do.
    """

    check: str
    level: Level
    message: str
    advice: str = ""
    in_shell: bool = False
