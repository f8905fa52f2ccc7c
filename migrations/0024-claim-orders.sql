-- One status in the order of the days of care, and a provider's claims by days of care.
set local search_path = app;
create index claims_status_service_date on claims (organization_id, status, service_date desc, claim_id desc);
create index claims_provider_service_date on claims (organization_id, provider_id, service_date desc, claim_id desc);
-- Every login looks for counters that ended long ago, and mostly finds none.
create index rate_limits_started on auth.rate_limits (started_at);
