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
    """Changes of the settings. Amounts are in major units; timezone is an IANA name."""

    claim_amount_limit: Money | UnsetType = UNSET
    auto_approve_limit: MoneyOrZero | UnsetType = UNSET
    timezone: Timezone | UnsetType = UNSET
    decision_days: DecisionDays | UnsetType = UNSET
    appeal_window_days: AppealDays | UnsetType = UNSET

    def columns(self) -> dict[str, object]:
        """The changes as columns of the table."""
        params = self.update_params()
        for name in ("claim_amount_limit", "auto_approve_limit"):
            params[f"{name}_cents"] = to_cents(params.pop(name), f"settings.{encode_name(name)}")
        return params


class OrganizationChange(RequestBody):
    """Changes of the organization. Fields and settings that are not sent stay unchanged."""

    name: Name | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    settings: SettingsChange | UnsetType = UNSET


class OrganizationSettings(ResponseBody):
    """The settings for processing claims. Limits are in major units; days are counted in the organization's time zone."""

    claim_amount_limit: Sum
    auto_approve_limit: Sum
    timezone: Timezone
    decision_days: int
    appeal_window_days: int


class Organization(ResponseBody):
    """An organization. Providers and patients see its name but not its settings."""

    id: UUID
    slug: Slug
    name: Name
    settings: OrganizationSettings | None


@get("/api/organization")
async def get_organization(db: Db) -> Envelope[Organization]:
    """Get the caller's organization.

    Roles: admin, claims_processor, provider (name only), patient (name only).
    """
    return await db.one(queries.get)


@patch("/api/organization")
async def change_organization(data: JSONBody[OrganizationChange], db: Db) -> Envelope[Organization]:
    """Change the caller's organization. Name, slug and settings that are not sent stay unchanged.

    Roles: admin.
    """
    params = data.update_params()
    settings = params.pop("settings") or SettingsChange()
    return await db.one(queries.change, **params, **settings.columns())


handlers = [get_organization, change_organization]
