-- What somebody works on, or nobody yet: by status, and in the order of the days of care.
set local search_path = app;
create index claims_assigned_status_newest on claims (organization_id, assigned_to, status, created_at desc, claim_id desc);
create index claims_assigned_service_date on claims (organization_id, assigned_to, service_date desc, claim_id desc);
