"""Errors that SQL writes into a result (app.error_json) have the codes and messages of app/errors.py."""

import psycopg
import pytest

from app.errors import ApiError, Conflict, Forbidden, Invalid, NotFound, from_database

RAISED = {"INVAL": Invalid, "CLASH": Conflict, "42501": Forbidden, "23505": Conflict, "22012": ApiError}
OF_STATE = RAISED | {"02000": NotFound}
"""02000 is a row that is missing or hidden, which no statement raises."""


@pytest.mark.parametrize("state", OF_STATE)
def test_an_error_has_the_code_and_message_of_its_class(as_root, state):
    ((error,),) = as_root.execute("select error_json(%s, '{}')", [state]).fetchall()
    assert (error["code"], error["message"]) == (OF_STATE[state].code, OF_STATE[state].__doc__)
    assert set(error) == {"code", "message", "fields"}


@pytest.mark.parametrize("state", [*RAISED, "TRANS"])
def test_an_error_that_ends_a_request_has_the_same_code(as_root, state):
    with pytest.raises(psycopg.Error) as raised:
        as_root.execute(f"do $$ begin raise exception using errcode = '{state}', detail = '{{}}'; end $$")
    ((code,),) = as_root.execute("select error_json(%s, '{}') ->> 'code'", [state]).fetchall()
    assert from_database(raised.value).code == code


def test_an_illegal_transition_names_both_statuses(as_root):
    """The one message that is in SQL alone: a single claim's error has the statuses in its details instead."""
    message = "select error_json('TRANS', %s) ->> 'message'"
    ((moved,), (created,)) = (
        as_root.execute(message, [detail]).fetchone()
        for detail in ('{"from": "paid", "to": "draft"}', '{"from": null, "to": "paid"}')
    )
    assert (moved, created) == ("A claim that is paid can't become draft.", "A claim that is new can't become paid.")
