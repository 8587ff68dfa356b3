"""The page on troubleshooting quotes messages, states and columns that exist."""

import re

import pytest

from evergreen_host.monitor.metrics import STATES
from tests.docs.pages import ROOT, section
from tools.reference import errors

PAGE = ROOT / "docs" / "how-to" / "troubleshooting.md"
KINDS = (errors.of_calls, errors.of_models, errors.warnings, errors.of_commands, errors.of_doctor)
MESSAGES = {message.text for kind in KINDS for message in kind()}


def quoted(heading: str) -> list[str]:
    """The messages in the first column of the tables of a section that have a heading of that name."""
    return re.findall(r"^\| `([^`]+)` \|", section(PAGE, heading), re.MULTILINE)


@pytest.mark.parametrize("heading", ["A model refuses or is silent", "A call fails"])
def test_its_messages_are_in_the_code(heading):
    found = quoted(heading)
    assert len(found) >= 10
    assert [message for message in found if message not in MESSAGES] == []


def test_its_states_exist():
    named = re.findall(r"`state` is `([^`]+)`", PAGE.read_text("utf-8"))
    assert named
    assert {*named} <= {*STATES}
