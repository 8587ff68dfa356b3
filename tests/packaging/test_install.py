"""Installing puts files where Postgres looks and is idempotent; uninstalling removes them all."""

import dataclasses
import os
from pathlib import Path

import pytest

from evergreen_host.errors import CommandError, EvergreenError, MissingError, NotPermittedError
from evergreen_host.packaging import install, library
from evergreen_host.packaging.install import Payload
from evergreen_host.packaging.postgres import Postgres, ServerPython, linked_version
from evergreen_host.report import Report


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for pip: leaves one module and counts its calls."""
    calls: list[list[str]] = []

    def fake(target: Path, python: ServerPython, requirements: list[str]) -> None:
        calls.append(requirements)
        (target / "some_package.py").write_text("VALUE = 1\n")

    monkeypatch.setattr(library, "install_requirements", fake)
    return calls


def run_install(postgres: Postgres, payload: Payload) -> Path:
    install.install(postgres, payload, Report())
    return postgres.libdir / "evergreen" / payload.version


def test_files_are_where_postgres_looks(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    installed = run_install(scratch, payload)
    assert (installed / "some_package.py").exists()
    assert (installed / "evergreen" / "work" / "queries.sql").exists()
    control = (scratch.extension_dir / "evergreen.control").read_text()
    assert f"module_pathname = '{installed}'" in control
    assert (scratch.extension_dir / "evergreen--1.2.0.sql").exists()


def test_tests_and_foreign_bytecode_stay_out(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    package = run_install(scratch, payload) / "evergreen"
    assert not (package / "tests").exists()
    assert not list(package.rglob("*cpython-30*"))


def test_everything_is_readable_under_a_strict_umask(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    before = os.umask(0o077)
    try:
        installed = run_install(scratch, payload)
    finally:
        os.umask(before)
    for path in [installed.parent, installed, installed / "evergreen", *(installed / "evergreen").rglob("*")]:
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_second_install_copies_the_package_but_asks_pip_for_nothing(
    scratch: Postgres, payload: Payload, pip_calls: list[list[str]]
):
    run_install(scratch, payload)
    (payload.package / "__init__.py").write_text("ANSWER = 43\n")
    (payload.package / "work" / "queries.sql").unlink()
    installed = run_install(scratch, payload)
    assert len(pip_calls) == 1
    assert (installed / "evergreen" / "__init__.py").read_text() == "ANSWER = 43\n"
    assert not (installed / "evergreen" / "work" / "queries.sql").exists()
    assert (installed / "some_package.py").exists()


def test_install_without_a_change_touches_nothing_and_needs_no_permission(
    scratch: Postgres, payload: Payload, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    installed = run_install(scratch, payload)
    before = {path: path.stat().st_ino for path in [*installed.rglob("*"), *scratch.extension_dir.iterdir()]}
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    report = Report()
    install.install(scratch, payload, report)
    assert {path: path.stat().st_ino for path in before} == before
    assert [step.state for step in report.steps] == ["present", "present"]


def test_changed_requirements_are_resolved_again(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    run_install(scratch, payload)
    run_install(scratch, dataclasses.replace(payload, requirements=["some-package>=2"]))
    assert pip_calls == [["some-package>=1"], ["some-package>=2"]]


def test_failed_install_leaves_the_old_one_and_no_litter(
    scratch: Postgres, payload: Payload, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    installed = run_install(scratch, payload)

    def fail(*_: object) -> None:
        raise EvergreenError("the registry is gone")

    monkeypatch.setattr(library, "install_requirements", fail)
    with pytest.raises(EvergreenError, match="registry is gone"):
        run_install(scratch, dataclasses.replace(payload, requirements=["other"]))
    assert (installed / "some_package.py").exists()
    assert [path.name for path in installed.parent.iterdir()] == ["1.2.0"]


def test_bytecode_names_the_place_it_runs_from(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    installed = run_install(scratch, payload)
    compiled = next((installed / "evergreen" / "__pycache__").glob("__init__.*.pyc"))
    assert str(installed / "evergreen" / "__init__.py").encode() in compiled.read_bytes()


def test_uninstall_removes_every_version(scratch: Postgres, payload: Payload, pip_calls: list[list[str]]):
    other = scratch.extension_dir / "vector.control"
    other.touch()
    run_install(scratch, payload)
    run_install(scratch, dataclasses.replace(payload, version="1.3.0"))
    install.uninstall(scratch, Report())
    assert list(scratch.extension_dir.iterdir()) == [other]
    assert not (scratch.libdir / "evergreen").exists()


def test_without_plpython_the_error_says_what_to_run(scratch: Postgres, payload: Payload):
    scratch.plpython.unlink()
    with pytest.raises(MissingError) as caught:
        run_install(scratch, payload)
    assert caught.value.hint == "run: evergreen setup"


def test_without_write_permission_nothing_is_changed(
    scratch: Postgres, payload: Payload, monkeypatch: pytest.MonkeyPatch, pip_calls: list[list[str]]
):
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may write anywhere
    with pytest.raises(NotPermittedError, match=str(scratch.libdir)):
        run_install(scratch, payload)
    assert pip_calls == []


def test_a_package_without_a_wheel_for_the_servers_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(CommandError, match="some-package") as caught:
        library.install_requirements(tmp_path / "target", ServerPython("3.99", None), ["some-package>=1"])
    assert "wheel for Python 3.99" in caught.value.hint


def test_linked_python_is_read_from_the_linker():
    assert linked_version("\tlibpython3.13.so.1.0 => /lib/libpython3.13.so.1.0 (0x7f)\n") == "3.13"
    assert linked_version("\tlibc.so.6 => /lib/libc.so.6\n") is None
