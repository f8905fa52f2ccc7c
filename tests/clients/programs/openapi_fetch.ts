/* openapi-fetch with the types that openapi-typescript has generated. */
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";
import { check, given, run } from "./common";

type Schemas = components["schemas"];

run("openapi-typescript", async () => {
  const client = createClient<paths>({ baseUrl: given("ADDRESS") });
  const tokens = await client.POST("/api/auth/login", { body: { email: given("EMAIL"), password: given("PASSWORD") } });
  check(tokens.data !== undefined, "login");
  const headers = { Authorization: `Bearer ${tokens.data.data.accessToken}` };
  // Optional fields are optional.
  const body: Schemas["NewClaim"] = {
    patientId: given("PATIENT"),
    providerId: given("PROVIDER"),
    diagnosisCode: "E11.9",
    amount: 1250.29,
    serviceDate: "2026-01-14",
  };
  const created = await client.POST("/api/claims", { body, headers });
  check(created.data !== undefined, "create");
  const claim: Schemas["Claim"] = created.data.data;
  check(claim.status === "submitted" && claim.approvedAmount === null && claim.amount === 1250.29, "the new claim");
  const page = await client.GET("/api/claims", { params: { query: { status: "submitted", limit: 100 } }, headers });
  check(page.data !== undefined && page.data.data.some((one) => one.id === claim.id), "list");
  check(page.data.meta.pagination.hasMore === false, "pagination");
  const change: Schemas["ClaimChange"] = { status: "rejected", denialReason: "Not covered by the plan" };
  const changed = await client.PATCH("/api/claims/{id}", { params: { path: { id: claim.id } }, body: change, headers });
  check(changed.data?.data.status === "rejected", "change");
  const refused = await client.POST("/api/claims", { body: { ...body, amount: 0 }, headers });
  check(refused.error?.error.code === "VALIDATION_ERROR", "error");
  check(refused.error.error.details?.fields?.["amount"] !== undefined, "details");
  const lines = [{ ...body, amount: 20.5 }, { amount: 1 }].map((line) => `${JSON.stringify(line)}\n`).join("");
  const answer = await client.POST("/api/claims/import", {
    body: lines,
    bodySerializer: (text: string) => text,
    parseAs: "text",
    headers: { ...headers, "Content-Type": "application/x-ndjson" },
  });
  check(answer.data !== undefined, "import");
  const results = answer.data.trim().split("\n").map((line) => JSON.parse(line) as Schemas["LineResult"]);
  check(results[0]?.result === "created" && results[1]?.error?.code === "VALIDATION_ERROR", "results of lines");
});
