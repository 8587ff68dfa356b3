"""Packages that are imported at their first use: a new session pays only for what its calls need."""

from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    """Stands for a package until one of its attributes is read, and remembers each that was."""

    def __getattr__(self, name: str) -> Any:
        # The import statement of our modules, which finds our package and not another of its name: see isolation.py.
        value = getattr(__import__(self.__name__), name)
        setattr(self, name, value)
        return value


def lazy(package: str) -> ModuleType:
    """Return a stand-in for a top-level package; type checkers are shown the real one under TYPE_CHECKING."""
    return _LazyModule(package)
