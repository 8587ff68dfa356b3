"""Secrets have names; their values come from files or the environment, and never stand in a message."""

import os
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.errors import ConfigurationError
from evergreen.embedding.http.credentials import is_name, masked, remedy, value

KEY = "sk-proj-0123456789abcdef"


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRETS", str(tmp_path))
    return tmp_path


def kept(directory, content, mode=0o640, name="openai"):
    path = directory / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", ["openai", "OPENAI_KEY", "a.b-c_1", "_x", "a" * 100])
def test_names(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "/etc/passwd", "a..b", "1a", "-a", "a b", "a\n", "a\x00", "é", "a" * 101),
        *("sk-abc/def+ghi==", "$HOME", "a\\b", "~a", ".hidden"),
    ],
)
def test_what_is_no_name(name, directory):
    assert not is_name(name)
    with pytest.raises(ConfigurationError) as found:
        value(name)
    assert len(name) < 3 or name not in str(found.value)


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"  {KEY}\r\n\n", f"\t{KEY}\t"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_blanks_around_a_key_do_not_count(directory, content, mode):
    kept(directory, content.encode(), mode)
    assert value("openai") == KEY


def test_a_file_comes_before_the_environment(directory, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_openai", "other\n")
    assert value("openai") == "other"
    kept(directory, KEY.encode())
    assert value("openai") == KEY


def test_only_variables_of_our_prefix_are_secrets(directory, monkeypatch):
    monkeypatch.setenv("openai", KEY)
    with pytest.raises(ConfigurationError, match="neither a file"):
        value("openai")


def test_a_key_is_read_anew_each_time(directory):
    kept(directory, b"first")
    assert value("openai") == "first"
    kept(directory, b"second")
    assert value("openai") == "second"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o666, 0o777, 0o641])
def test_a_file_that_others_may_read_or_change_is_refused(directory, mode):
    kept(directory, KEY.encode(), mode)
    with pytest.raises(ConfigurationError, match="chmod 0640") as found:
        value("openai")
    assert KEY not in str(found.value)


@pytest.fixture
def read_only(directory):
    """Mounts the directory as a container engine does, with a file of some mode in it."""

    def mount(mode):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
        kept(directory, KEY.encode(), mode)
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)

    yield mount
    subprocess.run(["umount", directory], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_what_a_container_mounts_open_is_refused_with_the_settings_of_the_mount(read_only, mode):
    read_only(mode)
    with pytest.raises(ConfigurationError, match="mount it with group 0 and mode 0440"):
        value("openai")
    assert remedy("openai").command.startswith("chown 0:0 openai && chmod 0440 openai ")
    assert remedy("openai").hint.startswith("Run as root: chown ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_is_closed_to_the_server_is_named(directory):
    directory.chmod(0o700)
    kept(directory, KEY.encode(), 0o644)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigurationError, match=f"user 65534 needs to enter {directory}"):
            value("openai")
        assert remedy("openai").hint.startswith(f"Run as root: chmod 0755 {directory} ")
    finally:
        os.seteuid(0)


def test_a_key_is_typed_into_the_command_that_writes_its_file(directory):
    found = remedy("openai")
    assert found.hint == f"Type the key into this command, on the server's machine: {found.command}"
    assert found.command.startswith("install ")
    assert found.command.endswith(f" /dev/stdin {directory / 'openai'}")


NO_KEYS = [
    b"",
    b" \n",
    f"{KEY}\nX-Other: 1".encode(),
    f"{KEY}\r{KEY}".encode(),
    f"{KEY}\x7f{KEY}".encode(),
    f"{KEY}é".encode(),
    f"{KEY}".encode() + b"\xff",
    b"x" * 8193,
]
NO_VARIABLES = [f"{KEY}\x00".encode(), b"x" * 10_000_000]  # an environment cannot hold these


@pytest.mark.parametrize(
    ("place", "content"),
    [(place, content) for place in ("file", "environment") for content in NO_KEYS]
    + [("file", one) for one in NO_VARIABLES],
)
def test_what_cannot_be_a_key_is_refused_unseen(directory, monkeypatch, content, place):
    if place == "file":
        kept(directory, content)
    else:
        monkeypatch.setitem(os.environ, "EVERGREEN_SECRET_openai", os.fsdecode(content))
    with pytest.raises(ConfigurationError, match="cannot be a key") as found:
        value("openai")
    for error in (found.value, found.value.__context__, found.value.__cause__):
        assert KEY not in repr(error)


def test_what_is_no_file_is_refused_and_not_waited_for(directory):
    os.mkfifo(directory / "openai", 0o600)
    with pytest.raises(ConfigurationError, match="not a file"):
        value("openai")
    (directory / "folder").mkdir()
    with pytest.raises(ConfigurationError, match="not a file"):
        value("folder")
    (directory / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        value("loop")


def test_a_link_as_kubernetes_makes_them_is_followed(directory):
    (directory / "..data").mkdir()
    kept(directory / "..data", KEY.encode())
    (directory / "openai").symlink_to("..data/openai")
    assert value("openai") == KEY
    assert stat.S_ISLNK((directory / "openai").lstat().st_mode)


@given(st.text(min_size=8, max_size=40), st.text(max_size=60), st.text(max_size=60))
def test_a_key_is_struck_out_wherever_it_stands(key, before, after):
    said = masked(before + key + after, key)
    assert "***" in said
    assert key not in said or key in "***"


@given(st.text("abcdef0123456789", min_size=20, max_size=40), st.integers(0, 11), st.integers(8, 40))
def test_a_part_of_a_key_is_struck_out_too(key, start, length):
    part = key[start : start + length]
    assert masked(f"<{part}>", key) == "<***>"


@given(st.text(max_size=100))
def test_a_text_without_a_key_stays_as_it_is(text):
    assert masked(text, None) == text
    assert masked(text.replace("\ue000", ""), "\ue000" * 9) == text.replace("\ue000", "")
