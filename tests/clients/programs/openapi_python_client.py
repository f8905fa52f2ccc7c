"""A client that openapi-python-client has generated: login, create, list, change, a typed error, and an import."""

import json
import os
from datetime import date
from io import BytesIO
from uuid import UUID

from claims_client import AuthenticatedClient, Client
from claims_client.api.auth import login
from claims_client.api.claims import change_claim, create_claim, import_claims, list_claims
from claims_client.models import (
    ClaimChange,
    ClaimPage,
    ClaimResponse,
    ClaimStatus,
    ErrorDetails,
    Failure,
    FieldErrors,
    LineResult,
    Login,
    NewClaim,
    TokensResponse,
)
from claims_client.types import File


def main() -> None:
    address, patient, provider = (os.environ[name] for name in ("ADDRESS", "PATIENT", "PROVIDER"))
    tokens = login.sync(
        client=Client(base_url=address), body=Login(email=os.environ["EMAIL"], password=os.environ["PASSWORD"])
    )
    assert isinstance(tokens, TokensResponse)
    client = AuthenticatedClient(base_url=address, token=tokens.data.access_token)
    new = NewClaim(
        patient_id=UUID(patient),
        provider_id=UUID(provider),
        diagnosis_code="E11.9",
        amount=1250.29,
        service_date=date(2026, 1, 14),
    )
    created = create_claim.sync(client=client, body=new)
    assert isinstance(created, ClaimResponse)
    assert created.data.status is ClaimStatus.SUBMITTED
    assert created.data.approved_amount is None
    assert created.data.amount == 1250.29
    page = list_claims.sync(client=client, status="submitted", limit=100)
    assert isinstance(page, ClaimPage)
    assert created.data.id in [claim.id for claim in page.data]
    assert page.meta.pagination.has_more is False
    change = ClaimChange(status=ClaimStatus.REJECTED, denial_reason="Not covered by the plan")
    changed = change_claim.sync(client=client, id=created.data.id, body=change)
    assert isinstance(changed, ClaimResponse)
    assert changed.data.status is ClaimStatus.REJECTED
    new.amount = 0.0
    refused = create_claim.sync(client=client, body=new)
    assert isinstance(refused, Failure)
    assert refused.error.code == "VALIDATION_ERROR"
    details = refused.error.details
    assert isinstance(details, ErrorDetails)
    assert isinstance(details.fields, FieldErrors)
    assert "amount" in details.fields.additional_properties
    new.amount = 20.5
    lines = "".join(f"{json.dumps(line)}\n" for line in (new.to_dict(), {"amount": 1}))
    answer = import_claims.sync(client=client, body=File(payload=BytesIO(lines.encode())))
    assert isinstance(answer, File)
    results = [LineResult.from_dict(json.loads(line)) for line in answer.payload.read().splitlines()]
    assert [result.result.value for result in results] == ["created", "failed"]
    assert results[1].error is not None
    assert results[1].error.code == "VALIDATION_ERROR"
    print("openapi-python-client: login, create, list, change, error, import")


main()
