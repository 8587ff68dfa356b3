"""Keeps the packages in our library directory apart from those that other PL/Python code of the session imports.

A session has one Python: the first import of urllib3 would decide which urllib3 all its code gets. So our packages are
in ``sys.modules`` under their names only while one of them, or a module of evergreen, imports; afterwards what was
there before is put back. The import statement of those modules is ``_import``; that of all other code is untouched.

numpy is the exception: its C code exists once in a process, so all share it. See ``share_numpy``.
"""

import builtins
import re
import sys
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

_US = __name__.partition(".")[0]
_SHARED = "numpy"
_OLDEST = (1, 24)  # the oldest numpy that was tried: Debian 12's
# requests and urllib3 use these where they find them. What they find would be the user's, of any version.
_NONE_OF = frozenset({"brotli", "brotlicffi", "chardet", "simplejson", "socks", "zstandard"})
_INSTALLED = "evergreen-install.json"  # stands in a library directory, and in no source tree
_plain_import = builtins.__import__
_guard = threading.RLock()


class _State:
    """What is kept apart, and where it is now."""

    def __init__(self) -> None:
        self.library: str | None = None
        self.names: frozenset[str] = frozenset()
        self.modules: dict[str, ModuleType] = {}  # ours, while they are not in sys.modules
        self.theirs: dict[str, ModuleType] = {}  # what ours stand in for
        self.depth = 0
        self.numpy: str | None = None  # where it is imported from, if not from where all code gets it


_state = _State()


class UnsuitableError(Exception):
    """The session has loaded a package that cannot be loaded twice, and it will not do."""


def _top(name: str) -> str:
    return name.partition(".")[0]


def activate(library: Path) -> None:
    """Keep what is in this library directory apart from now on; raises UnsuitableError."""
    if _state.library is not None or not (library / _INSTALLED).is_file():
        return
    share_numpy(str(library))
    here = {path.name.partition(".")[0] for path in library.iterdir() if path.suffix in {"", ".py", ".so"}}
    _state.names = frozenset((here | _NONE_OF) - {_US, _SHARED, "__pycache__", ""})
    _state.library = str(library)
    sys.meta_path.insert(0, _Finder())


def share_numpy(library: str) -> None:
    """Decide for the numpy that this session's other code gets, or for ours if there is none; raises UnsuitableError.

    Ours is imported at the first use: that takes 60 ms, and many sessions never see a vector.
    """
    if _SHARED not in sys.modules:
        if _version_on_path() < _OLDEST:
            _state.numpy = library
        return
    loaded = sys.modules[_SHARED]
    version = str(getattr(loaded, "__version__", "without a version"))
    if _parsed(version) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise UnsuitableError(
            f"this session has loaded numpy {version} from {getattr(loaded, '__file__', None) or 'memory'},"
            f" and evergreen needs {oldest} or later"
        )


def _version_on_path() -> tuple[int, ...]:
    spec = PathFinder.find_spec(_SHARED)
    if spec is None or spec.origin is None:
        return ()
    from importlib import metadata  # noqa: PLC0415 - it takes a session 25 ms

    folder = str(Path(spec.origin).parents[1])
    found = next(iter(metadata.Distribution.discover(name=_SHARED, path=[folder])), None)
    return _parsed(found.version) if found is not None else ()


def _parsed(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


@contextmanager
def own_packages() -> Generator[None]:
    """Have our packages under their names inside: for code of theirs that looks modules up by name as it runs."""
    if _state.library is None:
        yield
        return
    with _guard:
        if _state.depth == 0:
            _swap_in(_state.library)
        _state.depth += 1
        try:
            yield
        finally:
            _state.depth -= 1
            if _state.depth == 0:
                _swap_out(_state.library)


def _swap_in(library: str) -> None:
    _state.theirs = _taken_out()
    sys.modules.update(_state.modules)
    sys.path.insert(0, library)


def _swap_out(library: str) -> None:
    _state.modules = _taken_out()
    sys.modules.update(_state.theirs)
    _state.theirs = {}
    if library in sys.path:
        sys.path.remove(library)


def _taken_out() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in [*sys.modules] if _top(name) in _state.names}


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002 - as the import statement names it
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """The import statement of our modules: a name of our library is ours."""
    absolute = name
    if level:
        package = str((globals or {}).get("__package__") or "")
        absolute = resolve_name("." * level + name, package)
    if _top(absolute) not in _state.names:
        return _plain_import(name, globals, locals, fromlist or (), level)
    known = _state.modules.get(absolute)
    if known is not None and fromlist and all(one in vars(known) for one in fromlist):
        return known  # by far the most: an import in a function that has run before
    with own_packages():
        return _plain_import(name, globals, locals, fromlist or (), level)


_BUILTINS: dict[str, Any] = {**vars(builtins), "__import__": _import}


class _Loader(SourceFileLoader):
    """Gives a module our import statement."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        module.__dict__["__builtins__"] = _BUILTINS
        super().exec_module(module)


class _Finder:
    """Finds evergreen's modules and our numpy always, and those of its library while they are in sys.modules."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - as importlib calls it
    ) -> ModuleSpec | None:
        """Return the spec with our loader; None for modules that are not ours; raises ModuleNotFoundError."""
        if fullname == _SHARED and _state.numpy is not None:
            return PathFinder.find_spec(fullname, [_state.numpy])
        top = _top(fullname)
        if top != _US and (top not in _state.names or _state.depth == 0):
            return None
        where: Iterable[str] = path if path is not None else [str(_state.library)]
        spec = PathFinder.find_spec(fullname, [*where])
        if spec is None and top in _NONE_OF:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
