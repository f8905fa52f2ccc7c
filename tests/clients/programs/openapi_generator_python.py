"""A client that openapi-generator has generated for Python: login, create, list, change, a typed error, and an import."""

import json
import os
from collections.abc import Callable
from datetime import date
from uuid import UUID

from openapi_client import (
    ApiClient,
    AuthApi,
    ClaimChange,
    ClaimsApi,
    ClaimStatus,
    Configuration,
    Failure,
    LineResult,
    Login,
    NewClaim,
)
from openapi_client.exceptions import BadRequestException


def failure_of(call: Callable[[], object]) -> Failure:
    """The body of the error with which the call ends."""
    try:
        call()
    except BadRequestException as error:
        return error.data
    raise AssertionError("the request was accepted")


def main() -> None:
    configuration = Configuration(host=os.environ["ADDRESS"])
    credentials = Login(email=os.environ["EMAIL"], password=os.environ["PASSWORD"])
    configuration.access_token = AuthApi(ApiClient(configuration)).login(credentials).data.access_token
    claims = ClaimsApi(ApiClient(configuration))
    new = NewClaim(
        patient_id=UUID(os.environ["PATIENT"]),
        provider_id=UUID(os.environ["PROVIDER"]),
        diagnosis_code="E11.9",
        amount=1250.29,
        service_date=date(2026, 1, 14),
    )
    created = claims.create_claim(new).data
    assert created.status is ClaimStatus.SUBMITTED
    assert created.approved_amount is None
    assert created.amount == 1250.29
    page = claims.list_claims(status="submitted", limit=100)
    assert created.id in [claim.id for claim in page.data]
    assert page.meta.pagination.has_more is False
    change = ClaimChange(status=ClaimStatus.REJECTED, denial_reason="Not covered by the plan")
    assert claims.change_claim(created.id, change).data.status is ClaimStatus.REJECTED
    failure = failure_of(lambda: claims.change_claim(created.id, ClaimChange(reason="without a status")))
    assert "status" in failure.error.details.fields
    new.amount = 20.5
    lines = "".join(f"{json.dumps(line)}\n" for line in (json.loads(new.to_json()), {"amount": 1}))
    answer = claims.import_claims(lines.encode())
    results = [LineResult.from_json(line) for line in bytes(answer).decode().splitlines()]
    assert [result.result for result in results] == ["created", "failed"]
    assert results[1].error.code == "VALIDATION_ERROR"
    print("openapi-generator python: login, create, list, change, error, import")


main()
