"""Policies that no route tests by itself, tested in SQL; all others are tested through the API."""

import pytest


def seen(connection, query):
    """The rows that the caller sees.

    The server counts a statement (tests/security/policies/coverage.py) when the next one runs.
    """
    rows = connection.execute(query).fetchall()
    connection.rollback()
    return {row if len(row) > 1 else row[0] for row in rows}


@pytest.mark.parametrize(
    ("who", "whose"), [("alma", "ana ben"), ("ana", "ana"), ("ben", "ben"), ("tom", "ana"), ("tina", "ben")]
)
def test_a_care_relationship_is_visible_to_its_two_sides(as_root, as_role, cast, who, whose):
    pairs = {"ana": (cast.ana_provider, cast.tom_patient), "ben": (cast.ben_provider, cast.tina_patient)}
    query = "select provider_id, patient_id from care_relationships"
    assert seen(as_root, query) > set(pairs.values())  # control: the other tenant's, too
    assert seen(as_role(who), query) == {pairs[name] for name in whose.split()}


@pytest.mark.parametrize(("who", "also"), [("pia", {"anas_claim"}), ("paul", set())])
def test_the_definer_sees_unassigned_claims_and_the_callers_own(settings, as_root, cast, who, also):
    query = "select claim_id from claims"
    assert len(seen(as_root, query)) == 4  # control: two of each tenant
    with as_root.transaction():
        as_root.execute(
            "select context.begin_request(%s, %s, null, 'test', '', 'sql', true)", [cast.organization, cast.ids[who]]
        )
        as_root.execute("set local role claims_auth_definer")
        found = {row[0] for row in as_root.execute(query).fetchall()}
    assert found == {cast.ids[name] for name in {"bens_claim"} | also}
