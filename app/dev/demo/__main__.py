"""`make demo`: sends CMS sample claims through a running API, over HTTP only, and checks the responses.

A second run changes nothing: providers are identified by NPI, patients by member number, claims by number, events by key.
"""

import statistics
import sys
import time
from typing import Any

import httpx

from app.dev.address import base_url, no_server
from app.dev.demo.files import SampleClaim, read
from app.dev.seed import PASSWORD
from app.vocabulary import CLAIM_STATUSES

EVENT_TIMEOUT_S = 30.0
"""How long the job of one event may take."""


class Failed(Exception):
    """A response of the API is not as expected."""


class Tenant:
    """A client of the API, logged in as one account."""

    def __init__(self, url: str, email: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=10)
        login = self.http.post("/api/auth/login", json={"email": email, "password": PASSWORD})
        if login.status_code != 200:
            raise Failed(f"{email} can't log in: {login.status_code}")
        self.http.headers["Authorization"] = f"Bearer {login.json()['data']['accessToken']}"

    def all(self, path: str) -> list[dict[str, Any]]:
        """All items of a list, read page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.http.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
            items += page["data"]
            cursor = page["meta"]["pagination"]["nextCursor"]
        return items

    def counts(self) -> dict[str, int]:
        """The number of claims in each status."""
        pages = {
            name: self.http.get("/api/claims", params={"status": name, "limit": 1, "offset": 0})
            for name in CLAIM_STATUSES
        }
        return {name: page.json()["meta"]["pagination"]["total"] for name, page in pages.items()}


class Demo:
    """One run of the demo."""

    def __init__(self, tenant: Tenant, claims: list[SampleClaim]) -> None:
        self.tenant = tenant
        self.claims = claims
        self.new = {"providers": 0, "patients": 0, "claims": 0, "events": 0}
        self.refused: list[str] = []
        self.waits_s: list[float] = []
        self.updated = 0

    def _get_or_create(self, resource: str, key: str, records: dict[str, dict[str, str]]) -> dict[str, str]:
        """Creates the records that do not exist; returns all ids by key."""
        ids = {record[key]: record["id"] for record in self.tenant.all(f"/api/{resource}")}
        for value, fields in records.items():
            if value not in ids:
                response = self.tenant.http.post(f"/api/{resource}", json={key: value} | fields)
                if response.status_code != 201:
                    raise Failed(f"{resource} {value}: {response.text}")
                ids[value] = response.json()["data"]["id"]
                self.new[resource] += 1
        return ids

    def create_records(self) -> None:
        """Creates the providers, patients and claims that do not exist."""
        providers = {claim.provider: {"name": f"CMS provider {claim.provider}"} for claim in self.claims}
        # The files contain no names, so these are placeholders.
        patients = {
            claim.member: {
                "firstName": "Sample",
                "lastName": f"Beneficiary {claim.member[4:]}",
                "dateOfBirth": "1950-01-01",
            }
            for claim in self.claims
        }
        self.provider_ids = self._get_or_create("providers", "npi", providers)
        self.patient_ids = self._get_or_create("patients", "memberNumber", patients)
        existing = {claim["claimNumber"] for claim in self.tenant.all("/api/claims")}
        for claim in self.claims:
            if claim.number not in existing:
                self._create_claim(claim)

    def _create_claim(self, claim: SampleClaim) -> None:
        # Written as text, so that the amount is not converted to a binary fraction.
        body = (
            f'{{"claimNumber": "{claim.number}", "patientId": "{self.patient_ids[claim.member]}", '
            f'"providerId": "{self.provider_ids[claim.provider]}", "diagnosisCode": "{claim.code}", '
            f'"amount": {claim.amount}, "serviceDate": "{claim.day}"}}'
        )
        response = self.tenant.http.post("/api/claims", content=body, headers={"Content-Type": "application/json"})
        if response.status_code == 400:
            fields = response.json()["error"]["details"]["fields"]
            self.refused.append(
                f"{claim.number} ({claim.code}): {'; '.join(f'{k}: {v[0]}' for k, v in fields.items())}"
            )
        elif response.status_code != 201:
            raise Failed(f"claim {claim.number}: {response.text}")
        else:
            self.new["claims"] += 1

    def create_events(self) -> None:
        """Creates a treatment of the patient without a hospital stay, and the admission and discharge of every stay."""
        stays = sorted((claim for claim in self.claims if claim.discharged), key=lambda stay: stay.day)
        inpatients = {stay.member for stay in stays}
        outpatient = next(claim for claim in self.claims if claim.member not in inpatients)
        treatment = {"eventType": "treatment_initiated", "providerId": self.provider_ids[outpatient.provider]}
        self._create_event(outpatient, treatment | {"occurredAt": f"{outpatient.day}T15:00:00Z"})
        for stay in stays:
            visit = {"visitNumber": stay.number}
            self._create_event(stay, visit | {"eventType": "admission", "occurredAt": f"{stay.day}T14:00:00Z"})
            self._create_event(stay, visit | {"eventType": "discharge", "occurredAt": f"{stay.discharged}T20:00:00Z"})

    def _create_event(self, claim: SampleClaim, fields: dict[str, str]) -> None:
        patient = self.patient_ids[claim.member]
        key = f"{claim.number}:{fields['eventType']}"
        started_at = time.perf_counter()
        body = {"patientId": patient, "idempotencyKey": key} | fields
        response = self.tenant.http.post("/api/patient-status", json=body)
        if response.status_code not in (200, 202):
            raise Failed(f"event {key}: {response.text}")
        event = self._wait_for_job(patient, response.json()["data"]["id"])
        if response.status_code == 202:
            self.new["events"] += 1
            self.waits_s.append(time.perf_counter() - started_at)
            self.updated += len(event["jobResult"]["updated"])

    def _wait_for_job(self, patient: str, event_id: str) -> dict[str, Any]:
        """Waits until the event's job is completed; returns the event. Searches the newest events, then the whole history."""
        deadline = time.monotonic() + EVENT_TIMEOUT_S
        path = f"/api/patient-status/history/{patient}"
        while time.monotonic() < deadline:
            newest = self.tenant.http.get(path, params={"limit": 5}).json()["data"]
            event = next((event for event in newest if event["id"] == event_id), None)
            event = event or next(event for event in self.tenant.all(path) if event["id"] == event_id)
            if event["jobStatus"] == "completed":
                return event
            if event["jobStatus"] == "failed":
                raise Failed(f"the job of event {event_id} failed")
            time.sleep(0.002)
        raise Failed(f"event {event_id} was not processed within {EVENT_TIMEOUT_S:g} s; is a worker running?")


def _table(before: dict[str, int], after: dict[str, int]) -> str:
    lines = [f"  {'status':<14}{'before':>8}{'after':>8}"]
    lines += [
        f"  {name:<14}{before[name]:>8}{after[name]:>8}" for name in CLAIM_STATUSES if before[name] or after[name]
    ]
    return "\n".join(lines)


def _check_other(other: Tenant, before: dict[str, int], ours: Tenant) -> None:
    """Checks that the second tenant sees none of the claims and, as a control, that the first one does."""
    claim = next(claim for claim in ours.all("/api/claims") if claim["claimNumber"].startswith("CMS"))
    if other.counts() != before or any(claim["claimNumber"].startswith("CMS") for claim in other.all("/api/claims")):
        raise Failed("the second tenant's claims changed")
    statuses = [tenant.http.get(f"/api/claims/{claim['id']}").status_code for tenant in (ours, other)]
    if statuses != [200, 404]:
        raise Failed(f"unexpected statuses of one claim for both tenants: {statuses}")


def run(url: str) -> None:
    """Runs the demo. Raises Failed if a response is not as expected."""
    claims = read()
    ours, other = Tenant(url, "admin@healthfirst.com"), Tenant(url, "admin@securecare.com")
    demo, others_before = Demo(ours, claims), other.counts()
    demo.create_records()
    print(
        f"{len(claims)} CMS sample claims: "
        + ", ".join(f"{demo.new[resource]} new {resource}" for resource in ("providers", "patients", "claims"))
    )
    print("".join(f"  refused  {refusal}\n" for refusal in demo.refused), end="")
    before = ours.counts()
    demo.create_events()
    after = ours.counts()
    print(f"{demo.new['events']} new events, {demo.updated} claims updated by the worker\n\n{_table(before, after)}\n")
    if demo.waits_s:
        cuts_s = statistics.quantiles(demo.waits_s, n=100, method="inclusive")
        print(f"from event to updated claims: p50 {cuts_s[49] * 1000:.1f} ms, p99 {cuts_s[98] * 1000:.1f} ms")
    _check_other(other, others_before, ours)
    print("the second tenant saw none of it: same counts, none of these claims in its list, 404 for one by id")
    if not demo.new["events"] and after != before:
        raise Failed("claims changed without a new event")


def main() -> int:
    """Runs the demo; returns the exit status: 0 only if every check succeeded."""
    url = base_url()
    try:
        run(url)
    except httpx.ConnectError:
        print(no_server(url), file=sys.stderr)
        return 1
    except Failed as failed:
        print(f"demo: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
