-- claims: admins read all claims of their organization; processors those assigned to them; providers and patients their own. Processors and
-- patients see no drafts. No role may delete, because claims are evidence. claim_transitions, not a policy, defines the changes of status.
-- claims_auth_definer assigns unassigned claims (sql/functions/claims_assignment.sql). claims_trigger_definer reads claims only in
-- app.record_access, after inserting an audit entry; the policies of audit_logs verify the context.
--
-- claims_context applies to roles that see the whole organization: they must match the verified organization id. Processors, providers and
-- patients do not need it. Their own policies compare a verified user, provider or patient id, and a foreign key ties that id to one
-- organization. Checking both would double the cost of every reference to the table. Audit check 022 accepts only these two forms.
select schema_admin.isolate('app.claims',
    context_roles => '{claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, '
                     'claims_reporting}',
    match_roles => '{claims_admin, claims_system, claims_auth_definer, claims_reporting}');
grant select on app.claims to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
    on app.claims to claims_admin, claims_provider;
grant update (status, status_reason, denial_reason, denial_code, approved_cents, notes)
    on app.claims to claims_admin, claims_processor, claims_provider;
grant update (assigned_to) on app.claims to claims_admin;
grant update (status, status_reason, status_event_id, approved_cents) on app.claims to claims_system;
grant select, update (assigned_to) on app.claims to claims_auth_definer;
grant select (organization_id, claim_id, patient_id) on app.claims to claims_trigger_definer;   -- app.record_access
grant select (organization_id, claim_id, patient_id, provider_id, diagnosis_code, amount_cents, approved_cents, service_date, status,
              denial_code, decision, created_at, updated_at, submitted_at, first_decided_at, processed_at, paid_at, version)
    on app.claims to claims_reporting;
grant select (claim_number, notes, denial_reason, status_reason) on app.claims to claims_reporting_personal;
create policy claims_admin_select on app.claims for select to claims_admin using (true);
create policy claims_admin_insert on app.claims for insert to claims_admin with check (true);
create policy claims_admin_update on app.claims for update to claims_admin using (true);
create policy claims_processor_select on app.claims for select to claims_processor
    using (assigned_to = context.variable('user_id')
           and context.matches(assigned_to, (select context.verified_id(current_user, 'user_id'))) and context.differs(status, 'draft'));
create policy claims_processor_update on app.claims for update to claims_processor
    using (assigned_to = context.variable('user_id')
           and context.matches(assigned_to, (select context.verified_id(current_user, 'user_id'))) and context.differs(status, 'draft'));
create policy claims_provider_select on app.claims for select to claims_provider
    using (provider_id = context.variable('provider_id')
           and context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))));
create policy claims_provider_insert on app.claims for insert to claims_provider
    with check (provider_id = context.variable('provider_id')
                and context.matches(provider_id, (select context.required_id(current_user, 'provider_id'))));
create policy claims_provider_update on app.claims for update to claims_provider
    using (provider_id = context.variable('provider_id')
           and context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))));
create policy claims_patient_select on app.claims for select to claims_patient
    using (patient_id = context.variable('patient_id')
           and context.matches(patient_id, (select context.verified_id(current_user, 'patient_id'))) and context.differs(status, 'draft'));
create policy claims_system_select on app.claims for select to claims_system using (true);
create policy claims_system_update on app.claims for update to claims_system using (true);
-- app.assign_next_claim finds an unassigned claim, and returns it once it is assigned to the caller.
create policy claims_auth_definer_select on app.claims for select to claims_auth_definer
    using (assigned_to is null and status in ('submitted', 'pending_info', 'appealed')
           or assigned_to = context.variable('user_id')
             and context.matches(assigned_to, (select context.verified_id(current_user, 'user_id'))));
create policy claims_auth_definer_update on app.claims for update to claims_auth_definer
    using (assigned_to is null and status in ('submitted', 'pending_info', 'appealed'))
    with check (assigned_to = context.variable('user_id')
                and context.matches(assigned_to, (select context.required_id(current_user, 'user_id'))));
create policy claims_trigger_definer_select on app.claims for select to claims_trigger_definer using (true);
create policy claims_reporting_select on app.claims for select to claims_reporting using (true);
