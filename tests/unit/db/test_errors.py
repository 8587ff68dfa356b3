"""The predicates on SQLSTATE say what they are named after, and nothing else."""

from types import SimpleNamespace

import pytest

from evergreen.core.errors import UserError
from evergreen.db import errors

PREDICATES = {
    errors.is_query_canceled: {"57014"},
    errors.is_shutdown_or_cancel: {"57014", "57P01", "57P02", "57P03"},
    errors.is_lock_unavailable: {"55P03"},
    errors.is_lock_conflict: {"55P03", "40P01"},
    errors.is_object_in_use: {"55006"},
    errors.is_blocked: {"55P03", "40P01", "55006"},
    errors.is_disk_full: {"53100"},
    errors.is_undefined_table: {"42P01"},
    errors.is_unique_violation: {"23505"},
    errors.is_dependency: {"2BP01"},
    errors.is_insufficient_privilege: {"42501"},
}
STATES = {"22P02", "25001", "40001", "53200", "55000", "58030", "XX000"}.union(*PREDICATES.values())


@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda predicate: predicate.__name__)
def test_a_predicate_holds_for_its_states_only(predicate):
    assert {state for state in STATES if predicate(SimpleNamespace(sqlstate=state))} == PREDICATES[predicate]


def test_a_class_is_the_beginning_of_a_state():
    error = SimpleNamespace(sqlstate="22P02")
    assert errors.in_class(error, "22")
    assert errors.in_class(error, "53", "22")
    assert not errors.in_class(error, "23", "P0")


def test_an_error_without_a_state_is_an_internal_one():
    assert errors.sqlstate(ValueError("no")) == "XX000"
    assert errors.sqlstate(UserError("no", "42704")) == "42704"
    assert not errors.is_query_canceled(ValueError("57014"))
