"""The documentation site: strict about links, loads nothing from elsewhere, and has the pages of the root."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("mkdocs", reason="`make docs` installs it")

PAGE = "# Evergreen\n\nSee the [guide](docs/guide.md), and [what changed](CHANGELOG.md#unreleased).\n"
GUIDE = "# Guide\n\nFirst read the [start](../README.md).\n"
CHANGELOG = "# Changelog\n\n## Unreleased\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with our configuration and hooks."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "site.py").write_bytes((ROOT / "tools" / "site.py").read_bytes())
    (tmp_path / "docs" / "guide.md").write_text(GUIDE, "utf-8")
    (tmp_path / "README.md").write_text(PAGE, "utf-8")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, "utf-8")
    ours = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[0]
    nav = "\nnav:\n  - index.md\n  - guide.md\n  - changelog.md\n"
    ours = ours.replace("  logo: assets/logo.svg\n", "").replace("  favicon: assets/logo.svg\n", "")
    (tmp_path / "mkdocs.yml").write_text(ours.replace("extra_css:\n  - assets/site.css\n", "") + nav, "utf-8")
    return tmp_path


def build(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build"]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)


def test_links_between_the_root_and_docs_are_links_of_the_site(project):
    done = build(project)
    assert done.returncode == 0, done.stderr
    site = project / "build" / "site"
    index, guide = ((site / name).read_text("utf-8") for name in ("index.html", "guide.html"))
    assert 'href="guide.html"' in index
    assert 'href="changelog.html#unreleased"' in index
    assert 'href="index.html"' in guide


def test_what_is_wrong_ends_the_build(project):
    wrong = {
        "[no page](nowhere.md)": "nowhere.md",
        "[no section](../CHANGELOG.md#gone)": "#gone",
        '<script src="https://cdn.example.com/x.js"></script>': "cdn.example.com",
        "![badge](https://badges.example.com/x.svg)": "badges.example.com",
    }
    (project / "docs" / "guide.md").write_text("\n\n".join([GUIDE, *wrong]), "utf-8")
    (project / "docs" / "unlisted.md").write_text("# In no menu\n", "utf-8")
    done = build(project)
    assert done.returncode != 0
    lines = re.split(r"^(?=[A-Z]+ +-)", done.stdout + done.stderr, flags=re.MULTILINE)
    warnings = "".join(line for line in lines if line.startswith("WARNING"))
    for said in (*wrong.values(), "unlisted.md"):
        assert said in warnings


def test_our_own_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
