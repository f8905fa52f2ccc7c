-- Indexes for the claims of a processor, and for unassigned claims: by status, and by service date.
set local search_path = app;
create index claims_assigned_status_newest on claims (organization_id, assigned_to, status, created_at desc, claim_id desc);
create index claims_assigned_service_date on claims (organization_id, assigned_to, service_date desc, claim_id desc);
