"""The cast: the same organizations, users and rows in every test's database."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from app.config import Settings
from app.database.context import ContextSigner
from app.database.statements import Statement
from app.security.passwords import hash_password
from app.security.tokens import Caller, secret_hash

KEYS = {"test": b"a secret of the tests; 32 bytes and more"}
PASSWORD = "correct horse battery staple"
PASSWORD_HASH = hash_password(PASSWORD)
ROLE = {
    "alma": "admin",
    "pia": "claims_processor",
    "paul": "claims_processor",
    "ana": "provider",
    "ben": "provider",
    "tom": "patient",
    "tina": "patient",
}
KID, CONTEXT_KEY = next(iter(Settings(token_keys=KEYS).context_keys().items()))
SIGNER = ContextSigner(KID, CONTEXT_KEY)
IDS = """
select o.slug, 'organization', o.organization_id, null from app.organizations o
union all select o.slug, split_part(u.email, '@', 1), u.user_id, u.email
from app.users u join app.organizations o using (organization_id)
union all select o.slug, lower(p.name) || '_provider', p.provider_id, null
from app.providers p join app.organizations o using (organization_id)
union all select o.slug, lower(p.first_name) || '_patient', p.patient_id, null
from app.patients p join app.organizations o using (organization_id)
union all select o.slug, case c.claim_number when 'C-ANA' then 'anas_claim' else 'bens_claim' end, c.claim_id, null
from app.claims c join app.organizations o using (organization_id)
union all select o.slug, 'toms_event', e.event_id, null
from app.patient_status_events e join app.organizations o using (organization_id)
union all select o.slug, 'invitation', i.invitation_id, null
from app.invitations i join app.organizations o using (organization_id)
union all select o.slug, 'toms_job', j.job_id, null
from app.job_processing_logs j join app.organizations o using (organization_id)"""


@dataclass
class Cast:
    """The users and rows of one of two organizations: ids by name. Tests act in north; south is the other tenant."""

    ids: dict[str, UUID]
    emails: dict[UUID, str]

    def __getattr__(self, name: str) -> UUID:
        try:
            return self.ids[name]
        except KeyError:
            raise AttributeError(name) from None


def read_casts(connection: psycopg.Connection[Any]) -> dict[str, Cast]:
    """The cast of each organization, by its slug."""
    casts = {"north": Cast({}, {}), "south": Cast({}, {})}
    for slug, name, id_, email in connection.execute(IDS).fetchall():
        casts[slug].ids[name] = id_
        if email:
            casts[slug].emails[id_] = email
    return casts


def seed_cast(connection: psycopg.Connection[Any]) -> None:
    """alma (admin), pia and paul (processors), ana and ben (providers), tom and tina (patients) in north; the same in south.

    ana treats tom, ben treats tina. anas_claim is tom's, assigned to pia; bens_claim is tina's, unassigned.
    """
    for slug in ("north", "south"):
        one = lambda statement, *given: connection.execute(statement, given).fetchone()[0]  # noqa: E731
        organization = one("select auth.add_organization(%s, %s)", slug, slug.title())
        connection.execute(
            "update app.organizations set auto_approve_limit_cents = 100000, claim_amount_limit_cents = 25000000 "
            "where organization_id = %s",
            [organization],
        )

        def user(name: str, role: str, provider: UUID | None = None, patient: UUID | None = None) -> UUID:
            call = "select auth.add_user(%s, %s, %s, %s, %s, %s)"
            return one(call, f"{name}@{slug}.test", name.title(), role, provider, patient, PASSWORD_HASH)  # noqa: B023

        alma = user("alma", "admin")
        pia, _paul = user("pia", "claims_processor"), user("paul", "claims_processor")
        enter = "select set_config('role', context.begin_request(%s, %s, null, 'cast', '', 'sql', false), true)"
        connection.execute("set local search_path = app")
        one(enter, organization, alma)
        new_provider = "insert into providers (npi, name) values (%s, %s) returning provider_id"
        ana, ben = one(new_provider, "1234567893", "Ana"), one(new_provider, "1245319599", "Ben")
        new_patient = (
            "insert into patients (member_number, first_name, last_name, date_of_birth) values (%s, %s, %s, '1980-02-03') "
            "returning patient_id"
        )
        tom, tina = one(new_patient, "M-1", "Tom", slug), one(new_patient, "M-2", "Tina", slug)
        new_claim = (
            "insert into claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
            "values (%s, %s, %s, 'E11.9', 12550, current_date - 3) returning claim_id"
        )
        anas, _bens = one(new_claim, "C-ANA", tom, ana), one(new_claim, "C-BEN", tina, ben)
        connection.execute("update claims set assigned_to = %s where claim_id = %s", [pia, anas])
        one(
            "insert into patient_status_events (patient_id, event_type, occurred_at) values (%s, 'admission', now()) "
            "returning event_id",
            tom,
        )
        one(
            "insert into invitations (email, role, token_hash) values ('new@' || %s || '.test', 'admin', %s) returning invitation_id",
            slug,
            secret_hash(f"invitation to {slug}"),
        )
        connection.execute("select reserve_idempotency_key('/api/claims', 'cast', '')")
        connection.execute("reset role")
        user("ana", "provider", provider=ana)
        user("ben", "provider", provider=ben)
        user("tom", "patient", patient=tom)
        user("tina", "patient", patient=tina)
    # A session for each user, with the user's own id: tokens of the tests name it.
    connection.execute(
        "insert into auth.sessions (organization_id, session_id, user_id) select organization_id, user_id, user_id from users"
    )
    # No test processes the cast's own jobs, and readiness requires a live worker.
    connection.execute("set local search_path = procrastinate; delete from procrastinate_jobs")
    connection.execute("insert into procrastinate_workers (last_heartbeat) values ('infinity')")


def caller(who: Cast, name: str) -> Caller:
    """The caller that a token of this user of the cast names."""
    return Caller(who.organization, who.ids[name], who.ids[name], ROLE[name])


def sign_context(who: Cast, name: str, backend: int = 0, *, read_only: bool = False) -> dict[str, Any]:
    """Parameters of BEGIN_CONTEXT for this user of the cast, signed as by the API for that backend, or for any."""
    given = SIGNER.sign_context(caller(who, name), request_id="test", address="", source="api", read_only=read_only)
    return given | {"proof": given["proof"](backend)}


def sign_call(query: Statement, **given: Any) -> dict[str, Any]:
    """The statement's parameters, signed as by the API for any backend."""
    signed = SIGNER.sign_call(query, given)
    return signed | {"proof": signed["proof"](0)}
