-- Indexes for the claims of one status by service date, and for a provider's claims by service date.
set local search_path = app;
create index claims_status_service_date on claims (organization_id, status, service_date desc, claim_id desc);
create index claims_provider_service_date on claims (organization_id, provider_id, service_date desc, claim_id desc);
-- Each login searches for expired counters, and mostly finds none.
create index rate_limits_started on auth.rate_limits (started_at);
