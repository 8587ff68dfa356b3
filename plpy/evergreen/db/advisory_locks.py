"""The numbers of our advisory locks: the first key of each; any role may take them, see ``embed.held_by_worker``."""

from enum import IntEnum


class AdvisoryLock(IntEnum):
    """Classes of advisory locks; the second key says which one of the class."""

    CLAIM = 1163285062  # a worker holds it for each of its claims; second key: of the token
    SLOT = 1163285063  # one worker at a time works in a slot of embed_schedule; second key: the slot
    SLEEPER = 1163285066  # the worker that sleeps and has to be woken; second key: 0
    STOP = 1163285067  # asks a worker to end; second key: its backend's pid


PLACEHOLDERS = {f"lock_{lock.name.lower()}": str(int(lock)) for lock in AdvisoryLock}
