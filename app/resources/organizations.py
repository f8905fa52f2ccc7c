"""The caller's organization and its settings."""

from typing import Annotated
from uuid import UUID

from litestar import get, patch
from litestar.params import JSONBody
from msgspec import UNSET, Meta, UnsetType

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.schemas import (
    Money,
    MoneyOrZero,
    Name,
    RequestBody,
    ResponseBody,
    Slug,
    Sum,
    encode_name,
    regex_string,
    to_cents,
)

queries = statements.load("organizations")

DecisionDays = Annotated[int, Meta(ge=1, le=365)]
AppealDays = Annotated[int, Meta(ge=1, le=3650)]
Timezone = Annotated[
    str, regex_string("^[A-Za-z0-9_+/-]+$", min_length=1, max_length=64, examples=["America/New_York"])
]


class SettingsChange(RequestBody):
    """Amounts in major units; timezone is an IANA name."""

    claim_amount_limit: Money | UnsetType = UNSET
    auto_approve_limit: MoneyOrZero | UnsetType = UNSET
    timezone: Timezone | UnsetType = UNSET
    decision_days: DecisionDays | UnsetType = UNSET
    appeal_window_days: AppealDays | UnsetType = UNSET

    def columns(self) -> dict[str, object]:
        """As the table has it."""
        given = self.update_params()
        for name in ("claim_amount_limit", "auto_approve_limit"):
            given[f"{name}_cents"] = to_cents(given.pop(name), f"settings.{encode_name(name)}")
        return given


class OrganizationChange(RequestBody):
    """Only what is sent changes, among the settings too."""

    name: Name | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    settings: SettingsChange | UnsetType = UNSET


class OrganizationSettings(ResponseBody):
    """What claims are judged by: limits in major units, days in the organization's time zone."""

    claim_amount_limit: Sum
    auto_approve_limit: Sum
    timezone: Timezone
    decision_days: int
    appeal_window_days: int


class Organization(ResponseBody):
    """A tenant; providers and patients see its name, not its settings."""

    id: UUID
    slug: Slug
    name: Name
    settings: OrganizationSettings | None


@get("/api/organization")
async def get_organization(db: Db) -> Envelope[Organization]:
    """The caller's organization."""
    return await db.one(queries.get)


@patch("/api/organization")
async def change_organization(data: JSONBody[OrganizationChange], db: Db) -> Envelope[Organization]:
    """Its name, slug and settings."""
    given = data.update_params()
    settings = given.pop("settings") or SettingsChange()
    return await db.one(queries.change, **given, **settings.columns())


handlers = [get_organization, change_organization]
