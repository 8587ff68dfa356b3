"""Tests replace names of the server's modules in Python that no type checker reads: the names must exist."""

import re

from tests.fixtures.paths import PROJECT

_SET = re.compile(r"\b([a-z_]+)\.(_?[A-Z][A-Z_]{2,})\b")
_OTHERS = {"models.DO_NOTHING", "pages.PREPARE"}  # Django's, and of tools.reference


def test_every_constant_that_a_test_names_is_in_its_module():
    modules: dict[str, str] = {}
    for path in (PROJECT / "plpy").rglob("*.py"):
        name = path.parent.name if path.stem == "__init__" else path.stem
        modules[name] = modules.get(name, "") + path.read_text("utf-8")
    missing = {
        f"{module}.{name}"
        for path in (PROJECT / "tests").rglob("*.py")
        for module, name in _SET.findall(path.read_text("utf-8"))
        if module in modules and not re.search(rf"\b{name}\b", modules[module])
    }
    assert missing - _OTHERS == set()
