/* A client that openapi-generator has generated for TypeScript with fetch. */
import { AuthApi, ClaimsApi, ClaimStatus, Configuration, FailureFromJSON, ResponseError } from "./typescript-fetch";
import { LineResultFromJSON, type NewClaim, NewClaimToJSON } from "./typescript-fetch";
import { check, given, run } from "./common";

run("openapi-generator typescript-fetch", async () => {
  const basePath = given("ADDRESS");
  const tokens = await new AuthApi(new Configuration({ basePath })).login({
    login: { email: given("EMAIL"), password: given("PASSWORD") },
  });
  const claims = new ClaimsApi(new Configuration({ basePath, accessToken: tokens.data.accessToken }));
  // Optional fields are optional.
  const newClaim: NewClaim = {
    patientId: given("PATIENT"),
    providerId: given("PROVIDER"),
    diagnosisCode: "E11.9",
    amount: 1250.29,
    serviceDate: new Date("2026-01-14"),
  };
  const claim = (await claims.createClaim({ newClaim })).data;
  check(claim.status === ClaimStatus.Submitted && claim.approvedAmount === null && claim.amount === 1250.29, "create");
  const page = await claims.listClaims({ status: "submitted", limit: 100 });
  check(page.data.some((one) => one.id === claim.id) && page.meta.pagination.hasMore === false, "list");
  const claimChange = { status: ClaimStatus.Rejected, denialReason: "Not covered by the plan" };
  const changed = await claims.changeClaim({ id: claim.id, claimChange });
  check(changed.data.status === ClaimStatus.Rejected, "change");
  const refused: unknown = await claims.createClaim({ newClaim: { ...newClaim, amount: 0 } }).catch((error: unknown) => error);
  check(refused instanceof ResponseError && refused.response.status === 400, "error");
  const failure = FailureFromJSON(await refused.response.json());
  check(failure.error.details?.fields?.["amount"] !== undefined, "details");
  const lines = [NewClaimToJSON({ ...newClaim, amount: 20.5 }), { amount: 1 }].map((line) => `${JSON.stringify(line)}\n`);
  const answer = await claims.importClaims({ body: new Blob(lines) });
  const results = (await answer.text()).trim().split("\n").map((line) => LineResultFromJSON(JSON.parse(line)));
  check(results[0]?.result === "created" && results[1]?.error?.code === "VALIDATION_ERROR", "results of lines");
});
