"""The operations of the benchmarks: each as an HTTP request and as SQL with plain columns, and its callers."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import psycopg

from app.security.tokens import Caller, make_token
from tests.load.baseline import CLIENTS, Statement
from tests.load.harness import KEYS
from tests.load.wrk import Request

DEEP = 5000
"""Claims before the deep page."""
PATIENTS = 50
"""Patients of the tenant, from the first on, for whom every caller may create claims."""


class Walk(NamedTuple):
    """Claims of the largest tenant: `count` of them, every `step`th from `first` on."""

    first: int
    step: int
    count: int


@dataclass(frozen=True)
class Person:
    """A user of the largest tenant.

    number: among those of the role, and of the provider. own: the policies' condition, by hand. status: one that many of the
    user's claims have. sees, moves: claims to read and to update.
    """

    name: str
    caller: Caller
    number: int
    provider_id: UUID
    own: str
    status: str
    sees: Walk
    moves: Walk | None

    def headers(self) -> dict[str, str]:
        """The headers with a new token."""
        return {"Authorization": f"Bearer {make_token(self.caller, KEYS)}", "Content-Type": "application/json"}


@dataclass
class World:
    """The address of the API, and an administrator's connection to its database."""

    address: str
    admin: psycopg.Connection[Any]
    people: list[Person] = field(default_factory=list)

    def ask(self, person: Person, path: str) -> Any:
        """The JSON of the response."""
        return httpx.get(self.address + path, headers=person.headers(), timeout=30).raise_for_status().json()

    def claims(self, walk: Walk, order: str) -> list[tuple[UUID, str]]:
        """Ids and statuses of up to ten thousand claims of a walk, drafts excluded."""
        text = (
            "select c.claim_id, c.status from generate_series(0, %s - 1) i, bench.tenants t, app.claims c where t.n = 1 "
            "and c.organization_id = t.organization_id and c.claim_id = bench.claim_id(5 * (%s + %s * i)) and c.status <> 'draft'"
        )
        return self.admin.execute(
            f"{text} order by {order} limit 10000", [walk.count, walk.first, walk.step]
        ).fetchall()


def cast(admin: psycopg.Connection[Any]) -> list[Person]:
    """The callers, each with an open session."""
    largest, few, opened = admin.execute("select largest, few, open from bench.plan").fetchone() or (0, 0, 0)
    tenant, stride, recent = "and c.organization_id = :organization_id", largest // few, largest - 2 * few
    working = f"{tenant} and c.assigned_to = :user_id and c.status <> 'draft'"
    billing = f"{tenant} and c.provider_id = :provider_id"
    theirs = Walk(recent + 2 - recent % 2, 2, few)
    admins_open = Walk(theirs.first - 2 * opened, 2, opened)
    rows: list[tuple[str, str, int, int, str, str, Walk, Walk | None]] = [
        ("admin", "admin", 4, 1, tenant, "submitted", Walk(1, 1, largest), admins_open),
        ("processor, recent", "claims_processor", 5, 1, working, "under_review", theirs, theirs),
        (
            "processor, spread",
            "claims_processor",
            5,
            2,
            working,
            "paid",
            Walk(stride, stride, few - 2 * few // stride - 1),
            None,
        ),
        ("provider, recent", "provider", 6, 1, billing, "submitted", theirs._replace(first=theirs.first - 1), None),
        (
            "provider, spread",
            "provider",
            6,
            2,
            billing,
            "paid",
            Walk(stride + 1, stride, few - 2 * few // stride - 2),
            None,
        ),
    ]
    found = []
    for name, role, kind, number, own, status, sees, moves in rows:
        ids = admin.execute(
            "insert into auth.sessions (organization_id, session_id, user_id) select u.organization_id, u.user_id, u.user_id "
            "from app.users u, bench.tenants t where t.n = 1 and u.organization_id = t.organization_id "
            "and u.user_id = bench.id(since_ms, %s, base + %s) on conflict (organization_id, session_id) do update set ended_at = null "
            "returning organization_id, user_id, session_id, bench.provider_id(%s)",
            [kind, number, number],
        ).fetchone()
        assert ids
        found.append(Person(name, Caller(*ids[:3], role), number, ids[3], own, status, sees, moves))
    return found


@dataclass(frozen=True)
class Operation:
    """One kind of request. requests: a person's; statement: the same for pgbench; given: the values of its names."""

    name: str
    requests: Callable[[World, Person], list[Request]]
    statement: Statement
    given: Callable[[World, Person], dict[str, Any]] = lambda world, person: {"status": person.status}
    by: tuple[str, ...] = ("admin", "processor", "provider")
    answer: int = 200
    by_hand: bool = True
    """Whether a hand-written WHERE can replace the policies: not if functions read under them."""

    def people(self, world: World) -> list[Person]:
        """The callers with the right to it."""
        return [person for person in world.people if person.name.startswith(self.by)]

    def is_right(self, answer: dict[str, Any], person: Person) -> bool:
        """Whether a response is right: a full page of the requested status, a claim, counts of several."""
        data = answer["data"]
        if isinstance(data, list):
            return [row["status"] for row in data] == ["paid" if self.name == "deep" else person.status] * 20
        return bool(data["total"]["count"] > 1 if self.name == "stats" else data["id"])


def listing(more: str = "") -> Callable[[World, Person], list[Request]]:
    """The newest twenty of the caller's status."""
    return lambda world, person: [("GET", f"/api/claims?limit=20&status={person.status}{more}", "")]


def deep(world: World, person: Person) -> list[Request]:
    """By the API's own cursor: DEEP claims down, or half of the list if it is shorter."""
    cursors = [""]
    while len(cursors) <= DEEP // 100:
        pagination = world.ask(person, f"/api/claims?limit=100&status=paid{cursors[-1]}")["meta"]["pagination"]
        if not pagination["hasMore"]:
            break
        cursors.append(f"&cursor={pagination['nextCursor']}")
    place = cursors[-1] if len(cursors) > DEEP // 100 else cursors[len(cursors) // 2]
    return [("GET", f"/api/claims?limit=20&status=paid{place}", "")]


def deep_place(world: World, person: Person) -> dict[str, Any]:
    """The start of the deep page."""
    first = world.ask(person, deep(world, person)[0][1])["data"][0]
    return {"status": "paid", "at": first["createdAt"], "id": first["id"]}


def get(world: World, person: Person) -> list[Request]:
    return [
        ("GET", f"/api/claims/{claim}", "")
        for claim, _ in world.claims(person.sees, "uuid_hash(c.claim_id), c.claim_id")
    ]


def create(world: World, person: Person) -> list[Request]:
    day = (date.today() - timedelta(days=3)).isoformat()
    found = world.admin.execute(
        "select bench.patient_id(n), bench.provider_id(%(of)s + n %% %(spread)s) from generate_series(1, %(patients)s) as n",
        claiming(world, person),
    )
    more = {"diagnosisCode": "E11.9", "amount": 123.45, "serviceDate": day, "notes": "Seen at the practice."}
    bodies = ({"patientId": str(patient), "providerId": str(provider)} | more for patient, provider in found)
    return [("POST", "/api/claims", json.dumps(body)) for body in bodies]


def claiming(world: World, person: Person) -> dict[str, Any]:
    """The patients and providers of new claims: a provider's own, or eight for an admin."""
    mine = person.caller.role == "provider"
    return {"patients": PATIENTS, "of": person.number if mine else 3, "spread": 1 if mine else 8}


def move(world: World, person: Person) -> list[Request]:
    """Updates each claim back and forth, so that the requests can be repeated."""
    assert person.moves
    bodies = {
        "under_review": json.dumps({"status": "pending_info", "reason": "More is needed"}),
        "pending_info": json.dumps({"status": "under_review"}),
    }
    there = world.claims(person.moves, "i")
    back = [(claim, next(other for other in bodies if other != status)) for claim, status in there]
    return [("PATCH", f"/api/claims/{claim}", bodies[status]) for claim, status in [*there, *back]]


def moving(world: World, person: Person) -> dict[str, Any]:
    """A part of the walk for each client, because two that update one claim would wait for each other."""
    assert person.moves
    return {**person.moves._asdict(), "part": person.moves.count // CLIENTS, "k": 0}


COLUMNS = """c.claim_id, c.claim_number, c.patient_id, c.provider_id, c.diagnosis_code, c.amount_cents, c.approved_cents, c.service_date,
    c.status, c.notes, c.denial_reason, c.denial_code, c.assigned_to, c.submitted_at, c.processed_at, c.paid_at, c.created_at, c.updated_at,
    c.version"""
LIST = f"select {COLUMNS} from claims c where c.status = :status {{own}} order by c.created_at desc, c.claim_id desc limit 21;"
COUNT = "select count(*) from (select from claims c where c.status = :status {own} limit 10001) as counted;"
# `offset 0` reads the one row of the claim first: without it the history is read first, and each of its rows records a read.
GET = f"""select {COLUMNS}, h.from_status, h.to_status, h.at, h.by_user_id, h.by_role, h.reason, h.source, h.event_id
from (select c.* from claims c, record_access('read', 'claims', c.claim_id, c.patient_id)
    where c.claim_id = bench.claim_id(:n) {{own}} offset 0) c
join claim_status_history h on h.organization_id = c.organization_id and h.claim_id = c.claim_id order by h.version;"""
CREATE = f"""insert into claims as c (patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
values (bench.patient_id(:n), bench.provider_id(:p), 'E11.9', 12345, current_date - 3, 'submitted', 'Seen at the practice.')
returning {COLUMNS};"""
MOVE = f"""select 1 from claims c where c.claim_id = bench.claim_id(:n) {{own}};
update claims as c
set status = case c.status when 'under_review' then 'pending_info' else 'under_review' end, status_reason = 'More is needed',
    denial_reason = null, denial_code = null, approved_cents = null
where c.claim_id = bench.claim_id(:n) {{own}}
returning {COLUMNS};"""
STATS = """select status, count, cents, decided, approved, timed, seconds from claim_totals_by_status(null, null)
union all
select c.status, count(*), sum(c.amount_cents), count(c.decision), count(*) filter (where c.decision = 'approved'),
    count(c.first_decided_at), sum(extract(epoch from c.first_decided_at - c.submitted_at))
from claims c where caller_role() in ('claims_processor', 'patient') group by c.status;"""

OPERATIONS = [
    Operation("list", listing(), Statement(LIST)),
    Operation("total", listing("&offset=0"), Statement(COUNT + "\n" + LIST)),
    Operation(
        "deep",
        deep,
        Statement(
            LIST.replace(
                "{own}", "and (c.created_at, c.claim_id) <= ((select :at::timestamptz), (select :id::uuid)) {own}"
            )
        ),
        deep_place,
        by=("admin",),
    ),
    Operation(
        "get",
        get,
        Statement(GET, "\\set n 5 * (:first + :step * random(0, :count - 1))", read_only=False),
        lambda world, person: person.sees._asdict(),
    ),
    Operation(
        "stats",
        lambda world, person: [("GET", "/api/claims/stats", "")],
        Statement(STATS),
        lambda world, person: {},
        by_hand=False,
    ),
    Operation(
        "create",
        create,
        Statement(CREATE, "\\set n random(1, :patients)\n\\set p :of + :n % :spread", read_only=False),
        claiming,
        by=("admin", "provider"),
        answer=201,
    ),
    Operation(
        "move",
        move,
        Statement(
            MOVE, "\\set k (:k + 1) % :part\n\\set n 5 * (:first + :step * (:client_id * :part + :k))", read_only=False
        ),
        moving,
        by=("admin", "processor, recent"),
    ),
]
