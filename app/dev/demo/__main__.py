"""`make demo`: plays CMS sample claims through a running API, over HTTP only, and checks what it says.

Running it again changes nothing: providers are found by NPI, patients by member number, claims by number, events by key.
"""

import os
import statistics
import sys
import time
from typing import Any

import httpx

from app.dev.demo.files import SampleClaim, read
from app.dev.seed import PASSWORD
from app.vocabulary import CLAIM_STATUSES

DEADLINE = 30.0
"""Seconds that one event may take."""


class Failed(Exception):
    """The demo saw something that should not be."""


class Tenant:
    """The API as one account sees it."""

    def __init__(self, base_url: str, email: str) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=10)
        login = self.http.post("/api/auth/login", json={"email": email, "password": PASSWORD})
        if login.status_code != 200:
            raise Failed(f"{email} can't log in: {login.status_code}")
        self.http.headers["Authorization"] = f"Bearer {login.json()['data']['accessToken']}"

    def all(self, path: str) -> list[dict[str, Any]]:
        """A whole list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.http.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
            found += page["data"]
            cursor = page["meta"]["pagination"]["nextCursor"]
        return found

    def counts(self) -> dict[str, int]:
        """How many claims stand in each status."""
        pages = {
            name: self.http.get("/api/claims", params={"status": name, "limit": 1, "offset": 0})
            for name in CLAIM_STATUSES
        }
        return {name: page.json()["meta"]["pagination"]["total"] for name, page in pages.items()}


class Play:
    """One run of the demo."""

    def __init__(self, tenant: Tenant, claims: list[SampleClaim]) -> None:
        self.tenant = tenant
        self.claims = claims
        self.new = {"providers": 0, "patients": 0, "claims": 0, "events": 0}
        self.refused: list[str] = []
        self.waits: list[float] = []
        self.moved = 0

    def _ids(self, what: str, key: str, wanted: dict[str, dict[str, str]]) -> dict[str, str]:
        """Ids by key of what stands already, or is made now."""
        ids = {one[key]: one["id"] for one in self.tenant.all(f"/api/{what}")}
        for value, more in wanted.items():
            if value not in ids:
                made = self.tenant.http.post(f"/api/{what}", json={key: value} | more)
                if made.status_code != 201:
                    raise Failed(f"{what} {value}: {made.text}")
                ids[value] = made.json()["data"]["id"]
                self.new[what] += 1
        return ids

    def enter(self) -> None:
        """Providers, patients and claims."""
        providers = {one.provider: {"name": f"CMS provider {one.provider}"} for one in self.claims}
        # The files carry no names; the stand-ins are neutral.
        patients = {
            one.member: {
                "firstName": "Sample",
                "lastName": f"Beneficiary {one.member[4:]}",
                "dateOfBirth": "1950-01-01",
            }
            for one in self.claims
        }
        self.provider_ids = self._ids("providers", "npi", providers)
        self.patient_ids = self._ids("patients", "memberNumber", patients)
        standing = {one["claimNumber"] for one in self.tenant.all("/api/claims")}
        for claim in self.claims:
            if claim.number not in standing:
                self._claim(claim)

    def _claim(self, claim: SampleClaim) -> None:
        # Written as text, so that an amount never is a binary fraction on its way.
        body = (
            f'{{"claimNumber": "{claim.number}", "patientId": "{self.patient_ids[claim.member]}", '
            f'"providerId": "{self.provider_ids[claim.provider]}", "diagnosisCode": "{claim.code}", '
            f'"amount": {claim.amount}, "serviceDate": "{claim.day}"}}'
        )
        made = self.tenant.http.post("/api/claims", content=body, headers={"Content-Type": "application/json"})
        if made.status_code == 400:
            fields = made.json()["error"]["details"]["fields"]
            self.refused.append(
                f"{claim.number} ({claim.code}): {'; '.join(f'{k}: {v[0]}' for k, v in fields.items())}"
            )
        elif made.status_code != 201:
            raise Failed(f"claim {claim.number}: {made.text}")
        else:
            self.new["claims"] += 1

    def report(self) -> None:
        """A treatment for the patient that was never in hospital; admission and discharge of every stay."""
        stays = sorted((one for one in self.claims if one.discharged), key=lambda one: one.day)
        inpatients = {one.member for one in stays}
        outpatient = next(one for one in self.claims if one.member not in inpatients)
        treated = {"eventType": "treatment_initiated", "providerId": self.provider_ids[outpatient.provider]}
        self._event(outpatient, treated | {"occurredAt": f"{outpatient.day}T15:00:00Z"})
        for stay in stays:
            visit = {"visitNumber": stay.number}
            self._event(stay, visit | {"eventType": "admission", "occurredAt": f"{stay.day}T14:00:00Z"})
            self._event(stay, visit | {"eventType": "discharge", "occurredAt": f"{stay.discharged}T20:00:00Z"})

    def _event(self, claim: SampleClaim, about: dict[str, str]) -> None:
        patient = self.patient_ids[claim.member]
        key = f"{claim.number}:{about['eventType']}"
        started = time.perf_counter()
        made = self.tenant.http.post("/api/patient-status", json={"patientId": patient, "idempotencyKey": key} | about)
        if made.status_code not in (200, 202):
            raise Failed(f"event {key}: {made.text}")
        event = self._finished(patient, made.json()["data"]["id"])
        if made.status_code == 202:
            self.new["events"] += 1
            self.waits.append(time.perf_counter() - started)
            self.moved += len(event["jobResult"]["updated"])

    def _finished(self, patient: str, event_id: str) -> dict[str, Any]:
        """The event once its job is done, looked for among the newest and then in the whole history."""
        deadline = time.monotonic() + DEADLINE
        path = f"/api/patient-status/history/{patient}"
        while time.monotonic() < deadline:
            newest = self.tenant.http.get(path, params={"limit": 5}).json()["data"]
            event = next((one for one in newest if one["id"] == event_id), None)
            event = event or next(one for one in self.tenant.all(path) if one["id"] == event_id)
            if event["jobStatus"] == "completed":
                return event
            if event["jobStatus"] == "failed":
                raise Failed(f"the job of event {event_id} failed")
            time.sleep(0.002)
        raise Failed(f"event {event_id} was not processed within {DEADLINE:g} s; does a worker run?")


def _table(before: dict[str, int], after: dict[str, int]) -> str:
    lines = [f"  {'status':<14}{'before':>8}{'after':>8}"]
    lines += [
        f"  {name:<14}{before[name]:>8}{after[name]:>8}" for name in CLAIM_STATUSES if before[name] or after[name]
    ]
    return "\n".join(lines)


def _check_other(other: Tenant, before: dict[str, int], ours: Tenant) -> None:
    """The second tenant saw nothing; the first, as a control, did."""
    claim = next(one for one in ours.all("/api/claims") if one["claimNumber"].startswith("CMS"))
    if other.counts() != before or any(one["claimNumber"].startswith("CMS") for one in other.all("/api/claims")):
        raise Failed("the second tenant's claims changed")
    answers = [who.http.get(f"/api/claims/{claim['id']}").status_code for who in (ours, other)]
    if answers != [200, 404]:
        raise Failed(f"one claim asked for by both tenants: {answers}")


def play(base_url: str) -> None:
    """The whole demo; raises Failed where something is not as it should be."""
    claims = read()
    ours, other = Tenant(base_url, "admin@healthfirst.com"), Tenant(base_url, "admin@securecare.com")
    run, others_before = Play(ours, claims), other.counts()
    run.enter()
    print(
        f"{len(claims)} CMS sample claims: "
        + ", ".join(f"{run.new[what]} new {what}" for what in ("providers", "patients", "claims"))
    )
    print("".join(f"  refused  {one}\n" for one in run.refused), end="")
    before = ours.counts()
    run.report()
    after = ours.counts()
    print(f"{run.new['events']} new events, {run.moved} moves of claims by the worker\n\n{_table(before, after)}\n")
    if run.waits:
        cuts = statistics.quantiles(run.waits, n=100, method="inclusive")
        print(f"from event to moved claims: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms")
    _check_other(other, others_before, ours)
    print("the second tenant saw none of it: same counts, none of these claims in its list, 404 for one by id")
    if not run.new["events"] and after != before:
        raise Failed("nothing new came in, and yet claims moved")


def main() -> int:
    """The exit code: 0 only when everything the demo says was seen."""
    base_url = os.environ.get("BASE_URL") or "http://127.0.0.1:8000"
    try:
        play(base_url)
    except httpx.ConnectError:
        print(f"nothing answers at {base_url}; start it with make run", file=sys.stderr)
        return 1
    except Failed as failed:
        print(f"demo: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
