"""`python -m app.dev.seed`: creates the demo data, once. For development only.

Functions of the schema auth create organizations and users, and an admin of the tenant creates the rest. So demo rows get the same
checks, history and audit entries as real ones.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from app.config import Settings, read_settings
from app.security.passwords import hash_password
from app.vocabulary import ClaimStatus

PASSWORD = "Password123!"  # noqa: S105  (the demo's, printed by `make run`)

Row = tuple[Any, ...]

PATHS: dict[ClaimStatus, list[ClaimStatus]] = {
    "draft": [],
    "submitted": [],
    "under_review": ["under_review"],
    "pending_info": ["under_review", "pending_info"],
    "approved": ["under_review", "approved"],
    "rejected": ["under_review", "rejected"],
    "paid": ["approved", "paid"],
    "appealed": ["rejected", "appealed"],
    "voided": ["voided"],
    "reversed": ["approved", "paid", "reversed"],
}
"""The status changes that bring a new claim to each status."""

PROVIDERS = [
    ("1234567893", "Lakeside Medical Center", "Internal medicine"),
    ("1245319599", "Harbor Cardiology", "Cardiology"),
]
PATIENTS = [
    ("Ada", "Moreau"),
    ("Ben", "Okafor"),
    ("Chiara", "Lind"),
    ("Dev", "Raman"),
    ("Elif", "Sato"),
    ("Finn", "Vogel"),
]
CODES = ["E11.9", "I10", "J45.909", "M54.50", "Z00.00", "S72.001A"]


class Tenant:
    """An organization to be seeded, and its first admin."""

    def __init__(self, connection: psycopg.Connection[Row], slug: str, name: str, domain: str) -> None:
        self.connection = connection
        self.domain = domain
        self.password_hash = hash_password(PASSWORD)
        self.organization_id = self.fetch_value("select auth.add_organization(%s, %s)", slug, name)
        connection.execute(
            "update app.organizations set claim_amount_limit_cents = 25000000, auto_approve_limit_cents = 100000, "
            "timezone = 'America/New_York' where organization_id = %s",
            [self.organization_id],
        )
        self.admin = self.add_user("admin", "Alex Admin", "admin")

    def fetch_value(self, statement: str, *params: Any) -> Any:
        """The first value of the statement's first row."""
        row = self.connection.execute(statement, params).fetchone()
        return row[0] if row else None

    def add_user(
        self, account: str, name: str, role: str, provider: UUID | None = None, patient: UUID | None = None
    ) -> UUID:
        """Creates a user who logs in as <account>@<domain>."""
        email = f"{account}@{self.domain}"
        user: UUID = self.fetch_value(
            "select auth.add_user(%s, %s, %s, %s, %s, %s)", email, name, role, provider, patient, self.password_hash
        )
        return user

    def become_admin(self) -> None:
        """Runs later statements as the tenant's admin, until `reset role`."""
        self.fetch_value(
            "select set_config('role', context.begin_request(%s, %s, null, 'seed', '', 'sql', false), true)",
            self.organization_id,
            self.admin,
        )


def seed_demo_data(settings: Settings) -> None:
    """Creates the demo tenants, unless they exist. Exits with status 2 in production."""
    if settings.environment == "production":
        print("seed: for development only, and ENVIRONMENT is production", file=sys.stderr)
        raise SystemExit(2)
    assert settings.database_url
    with psycopg.connect(settings.database_url, options="-c search_path=app") as connection:
        if connection.execute("select from app.organizations where slug = 'healthfirst'").fetchone() is not None:
            return
        _seed_tenant(Tenant(connection, "healthfirst", "HealthFirst Insurance", "healthfirst.com"), claims_each=4)
        _seed_tenant(Tenant(connection, "securecare", "SecureCare Insurance", "securecare.com"), claims_each=1)


def _seed_tenant(tenant: Tenant, claims_each: int) -> None:
    tenant.become_admin()
    providers = [
        tenant.fetch_value(
            "insert into providers (npi, name, specialty) values (%s, %s, %s) returning provider_id", *provider
        )
        for provider in PROVIDERS
    ]
    patients = [
        tenant.fetch_value(
            "insert into patients (member_number, first_name, last_name, date_of_birth) values (%s, %s, %s, %s) "
            "returning patient_id",
            f"M-{1000 + n}",
            first,
            last,
            datetime(1950 + 7 * n, 1 + n, 10 + n, tzinfo=UTC).date(),
        )
        for n, (first, last) in enumerate(PATIENTS)
    ]
    tenant.connection.execute("reset role")
    processor = tenant.add_user("processor1", "Pat Processor", "claims_processor")
    tenant.add_user("provider1", "Lakeside Billing", "provider", provider=providers[0])
    tenant.add_user("patient1", "Ada Moreau", "patient", patient=patients[0])
    tenant.become_admin()
    number = 0
    for status, path in PATHS.items():
        for _ in range(claims_each):
            _seed_claim(tenant, number, status, path, (patients, providers, processor))
            number += 1
    tenant.connection.execute("reset role")


def _seed_claim(
    tenant: Tenant, n: int, status: str, path: list[ClaimStatus], members: tuple[list[UUID], list[UUID], UUID]
) -> None:
    patients, providers, processor = members
    claim = tenant.fetch_value(
        "insert into claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status) "
        "values (%s, %s, %s, %s, %s, %s, %s) returning claim_id",
        f"DEMO-{n + 1:04}",
        patients[n % len(patients)],
        providers[n % len(providers)],
        CODES[n % len(CODES)],
        4_500 + 13_725 * n,
        (datetime.now(UTC) - timedelta(days=3 + 2 * n)).date(),
        "draft" if status == "draft" else "submitted",
    )
    if n % 3 == 0 and status != "draft":
        tenant.connection.execute("update claims set assigned_to = %s where claim_id = %s", [processor, claim])
    for step in path:
        tenant.connection.execute(
            "update claims set status = %s, status_reason = %s, denial_reason = %s, approved_cents = null where claim_id = %s",
            [step, "demo data", "Not covered by the plan" if step == "rejected" else None, claim],
        )


if __name__ == "__main__":
    seed_demo_data(read_settings(need=("database_url",)))
    print("demo data created")
