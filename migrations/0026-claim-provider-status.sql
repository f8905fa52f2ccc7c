-- A provider's claims of one status, newest first: what its own worklist asks for, however much else it has handed in.
set local search_path = app;
create index claims_provider_status_newest on claims (organization_id, provider_id, status, created_at desc, claim_id desc);
