-- claim_transitions: every role of the product may read the rules. Only the schema step writes them, as the administrator.
select schema_admin.close_table('app.claim_transitions');
grant select on app.claim_transitions to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
create policy claim_transitions_select on app.claim_transitions for select
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system using (true);
