-- Index for a provider's claims of one status, newest first, whatever the number of its other claims.
set local search_path = app;
create index claims_provider_status_newest on claims (organization_id, provider_id, status, created_at desc, claim_id desc);
