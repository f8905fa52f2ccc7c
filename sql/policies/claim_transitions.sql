-- claim_transitions: everybody may read the rules; only the schema step writes them, as the administrator.
select schema_admin.drop_policies('app.claim_transitions');
alter table app.claim_transitions enable row level security, force row level security;
revoke all on app.claim_transitions from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.claim_transitions to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
create policy claim_transitions_select on app.claim_transitions for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
