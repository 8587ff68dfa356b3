"""A finding: the result of a check of `evergreen doctor`."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One problem: ``message`` describes it, ``advice`` is what to type.

    An error keeps embeddings from becoming fresh, now or soon; a warning does not. Advice is SQL or, with ``in_shell``,
    a shell command for the server's machine. If it is empty, there is nothing to type and the message says what to do.
    """

    check: str
    level: Level
    message: str
    advice: str = ""
    in_shell: bool = False
