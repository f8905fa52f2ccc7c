/* A client that @hey-api/openapi-ts has generated. */
import { client } from "./hey/client.gen";
import { changeClaim, createClaim, importClaims, listClaims, login } from "./hey/sdk.gen";
import type { ClaimChange, ClaimStatus, Failure, LineResult, NewClaim } from "./hey/types.gen";
import { check, given, run } from "./common";

run("@hey-api/openapi-ts", async () => {
  client.setConfig({ baseUrl: given("ADDRESS") });
  const tokens = await login({ body: { email: given("EMAIL"), password: given("PASSWORD") } });
  check(tokens.data !== undefined, "login");
  const { accessToken } = tokens.data.data;
  client.setConfig({ auth: () => accessToken });
  // Optional fields are optional.
  const body: NewClaim = {
    patientId: given("PATIENT"),
    providerId: given("PROVIDER"),
    diagnosisCode: "E11.9",
    amount: 1250.29,
    serviceDate: "2026-01-14",
  };
  const created = await createClaim({ body });
  check(created.data !== undefined, "create");
  const claim = created.data.data;
  const submitted: ClaimStatus = "submitted";
  check(claim.status === submitted && claim.approvedAmount === null && claim.amount === 1250.29, "the new claim");
  const page = await listClaims({ query: { status: "submitted", limit: 100 } });
  check(page.data !== undefined && page.data.data.some((one) => one.id === claim.id), "list");
  check(page.data.meta.pagination.hasMore === false, "pagination");
  const change: ClaimChange = { status: "rejected", denialReason: "Not covered by the plan" };
  const changed = await changeClaim({ path: { id: claim.id }, body: change });
  check(changed.data?.data.status === "rejected", "change");
  const refused = await createClaim({ body: { ...body, amount: 0 } });
  const failure: Failure | undefined = refused.error;
  check(failure?.error.code === "VALIDATION_ERROR", "error");
  check(failure.error.details?.fields?.["amount"] !== undefined, "details");
  const lines = [{ ...body, amount: 20.5 }, { amount: 1 }].map((line) => `${JSON.stringify(line)}\n`).join("");
  const answer = await importClaims({ body: new Blob([lines]) });
  check(answer.data !== undefined, "import");
  const results = (await answer.data.text()).trim().split("\n").map((line) => JSON.parse(line) as LineResult);
  check(results[0]?.result === "created" && results[1]?.error?.code === "VALIDATION_ERROR", "results of lines");
});
