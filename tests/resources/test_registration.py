"""Registration: a new organization with its first admin, or a user of an existing one by invitation."""

import re

from tests.resources.test_auth import NEW, call, fields, instance, is_in, log_in, refresh


async def test_a_new_organization_has_a_first_admin_and_a_unique_slug(client):
    slugs = []
    for number, name in enumerate(
        ["Health First, Inc.", "HEALTH first inc", "\u4fdd\u967a", "\u4fdd\u967a", "A", "x" * 200]
    ):
        # The same email everywhere, one of north's included: an email is unique in its organization alone.
        made = await call(
            client, "register", organizationName=name, email="Alma@North.test", name="A", password=f"{NEW} {number}"
        )
        data = made.json()["data"]
        assert (made.status_code, data["user"]["role"], data["user"]["email"]) == (201, "admin", "alma@north.test")
        assert (data["tokenType"], data["expiresIn"], data["user"]["organization"]["name"]) == ("Bearer", 900, name)
        assert await is_in(client, data)
        assert (await refresh(client, data)).status_code == 200
        slugs.append(data["user"]["organization"]["slug"])
    assert slugs[0] == "health-first-inc"
    assert slugs[1].startswith("health-first-inc-")
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch("[a-z0-9-]{2,63}", slug) for slug in slugs)
    login = {"email": "alma@north.test", "password": f"{NEW} 1", "organizationSlug": slugs[1]}
    by_slug = await call(client, "login", **login)
    assert by_slug.json()["data"]["user"]["organization"]["slug"] == slugs[1]


async def test_a_later_organization_with_the_same_email_needs_its_slug(client):
    for name in ("One", "Two"):
        assert (
            await call(client, "register", organizationName=name, email="t@t.test", name="T", password=NEW)
        ).status_code == 201
    for given, slug in (({}, "one"), ({"organizationSlug": "one"}, "one"), ({"organizationSlug": "two"}, "two")):
        answer = await call(client, "login", email="t@t.test", password=NEW, **given)
        assert answer.json()["data"]["user"]["organization"]["slug"] == slug
    assert (await call(client, "login", email="t@t.test", password=NEW, organizationSlug="north")).status_code == 401


async def test_an_invalid_registration_creates_nothing(client, as_root, cast):
    good = {"organizationName": "Org", "email": "o@o.test", "name": "O", "password": NEW}
    invited = {"invitationToken": f"{cast.organization}.invitation to north", "name": "N", "password": NEW}
    count = "select (select count(*) from organizations), (select count(*) from users)"
    before = as_root.execute(count).fetchone()
    for body, named in [
        (good | {"role": "admin"}, ["role"]), (invited | {"role": "admin"}, ["role"]),
        (good | {"password": "x" * 11}, ["password"]), (good | {"password": "x" * 129}, ["password"]),
        (good | {"email": None}, ["email"]), (good | {"organizationName": ""}, ["organizationName"]),
        (invited | {"email": "me@me.test"}, ["invitationToken"]),
        (invited | {"invitationToken": f"{cast.organization}.invitation to south"}, ["invitationToken"]),
    ]:  # fmt: skip
        assert fields(await call(client, "register", **body)) == named
    assert as_root.execute(count).fetchone() == before
    assert (await call(client, "register", **good | {"password": "x" * 12})).status_code == 201  # controls
    assert (await call(client, "register", **invited | {"password": "\u00e4" * 128})).status_code == 201


async def test_closed_registration_accepts_invitations_alone(settings, cast):
    async with instance(settings, registration="closed") as closed:
        founds = await call(closed, "register", organizationName="Org", email="o@o.test", name="O", password=NEW)
        assert (founds.status_code, founds.json()["error"]["code"]) == (403, "FORBIDDEN")
        token = f"{cast.organization}.invitation to north"
        joins = await call(closed, "register", invitationToken=token, name="New", password=NEW)
        assert joins.status_code == 201
        user = joins.json()["data"]["user"]
        assert (user["email"], user["role"], user["organization"]["slug"]) == ("new@north.test", "admin", "north")
        assert await is_in(closed, await log_in(closed, "new", NEW))
