"""What forges, editors and pre-commit read: it parses, covers what is supported, and names what exists."""

import json
import re
import tomllib
from itertools import product

import pytest

from tests.docs.pages import ROOT

yaml = pytest.importorskip("yaml", reason="`make docs` installs it")
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
TARGETS = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def read(*path):
    return yaml.safe_load(ROOT.joinpath(*path).read_text("utf-8"))


def test_every_supported_version_is_tested():
    matrix = read(".github", "workflows", "test.yml")["jobs"]["test"]["strategy"]["matrix"]
    pythons = {row["image"]: row["python"] for row in matrix["include"]}
    tested = {*product(matrix["postgres"], (pythons[image] for image in matrix["image"]))}
    assert tested == {*product(range(15, 19), ("3.11", "3.12", "3.13"))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=" + min(pythons.values())


def test_the_workflow_runs_targets_of_the_makefile():
    targets = re.findall(r"run: make ([\w-]+)", WORKFLOW.read_text("utf-8"))
    assert {"check", "test-unit", "test", "docs"} <= set(targets)
    assert set(targets) <= set(TARGETS)


def test_git_trusts_the_checkout_in_every_job():
    """The steps of a job in a container are root's, and the checkout is not."""
    for job in read(".github", "workflows", "test.yml")["jobs"].values():
        runs = [step.get("run", "") for step in job["steps"]]
        first = next(number for number, run in enumerate(runs) if run.startswith("make "))
        assert any("safe.directory" in run for run in runs[:first])


def test_hooks_of_pre_commit_are_installed_by_make():
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for hook in hooks:
        program, *arguments = hook["entry"].split()
        assert f"$(BIN)/{program.removeprefix('.venv/bin/')}" in makefile
        assert all((ROOT / one).exists() for one in arguments if one.startswith("tests/"))


@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_issue_forms_have_what_forges_require(name):
    form = read(".github", "ISSUE_TEMPLATE", name)
    assert {"name", "description", "body"} <= form.keys()
    for part in form["body"]:
        assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert part["type"] == "markdown" or {"id", "attributes"} <= part.keys()


def test_the_dev_container_sets_up():
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8")
    settings = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).exists()
    assert settings["postCreateCommand"].removeprefix("make ") in TARGETS


def test_what_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:plpy|tests|extension|docs)/[\w/.-]+)`", text)
    assert len(named) > 5
    assert [path for path in named if not re.search("NAME|NN_", path) and not (ROOT / path).exists()] == []


def test_every_target_in_make_help_is_one():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", makefile, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):[^#\n]*## ", makefile, re.MULTILINE)
    assert {*described} <= {*phony.replace("\\", "").split()}
    assert len(described) > 15
