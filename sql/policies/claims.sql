-- claims: admins see all of their organization; processors what is assigned to them; providers and patients their own.
-- claims_gate hands out what nobody works on yet (sql/functions/claims_assignment.sql).
-- Drafts are the provider's and the admin's alone. Nobody deletes: a claim is evidence. Which status may follow which is
-- claim_transitions' to say, not a policy's.
select schema_admin.drop_policies('app.claims');
alter table app.claims enable row level security, force row level security;
revoke all on app.claims from public, claims_api, claims_worker, claims_auditor, claims_gate, claims_recorder, claims_admin,
    claims_processor, claims_provider, claims_patient, claims_system;
grant select on app.claims to claims_admin, claims_processor, claims_provider, claims_patient, claims_system;
grant insert (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, notes)
    on app.claims to claims_admin, claims_provider;
grant update (status, status_reason, denial_reason, denial_code, approved_cents, notes) on app.claims to claims_admin, claims_processor;
grant update (status, status_reason, denial_reason, denial_code, approved_cents, notes) on app.claims to claims_provider;
grant update (assigned_to) on app.claims to claims_admin;
grant update (status, status_reason, status_event_id, approved_cents) on app.claims to claims_system;
grant select, update (assigned_to) on app.claims to claims_gate;
grant select (organization_id, claim_id, patient_id) on app.claims to claims_recorder;   -- app.record_access
revoke all on app.claims from claims_reporting, claims_reporting_personal;
grant select (organization_id, claim_id, patient_id, provider_id, diagnosis_code, amount_cents, approved_cents, service_date, status, denial_code, decision, created_at, updated_at, submitted_at, first_decided_at, processed_at, paid_at, version)
    on app.claims to claims_reporting;
grant select (claim_number, notes, denial_reason, status_reason) on app.claims to claims_reporting_personal;
create policy claims_tenant on app.claims as restrictive to public     -- no row outside the context's organization, whoever asks
    using (organization_id = ctx.variable('organization_id'));
-- Whatever rows there are, a scan begins by checking the context. Not for claims_recorder: app.record_access alone reads claims as that
-- role, after it has added an entry to audit_logs, whose policies check the context.
create policy claims_entered on app.claims as restrictive to claims_admin, claims_processor, claims_provider, claims_patient,
    claims_system, claims_gate, claims_reporting
    using (organization_id = (select ctx.entered(current_user))) with check (true);
-- Nor of another than was entered. A role that sees only what is its own is asked for its own id instead, once in place of twice at every
-- reference: the foreign keys hold such an id to one organization (check 022).
create policy claims_signed on app.claims as restrictive to claims_admin, claims_system, claims_gate, claims_reporting
    using (ctx.same(organization_id, (select ctx.verified(current_user))))
    with check (ctx.same(organization_id, (select ctx.entered(current_user))));
create policy claims_admin_select on app.claims for select to claims_admin using (true);
create policy claims_admin_insert on app.claims for insert to claims_admin with check (true);
create policy claims_admin_update on app.claims for update to claims_admin using (true);
create policy claims_processor_select on app.claims for select to claims_processor
    using (assigned_to = ctx.variable('user_id')
           and ctx.same(assigned_to, (select ctx.verified(current_user, 'user_id'))) and ctx.differs(status, 'draft'));
create policy claims_processor_update on app.claims for update to claims_processor
    using (assigned_to = ctx.variable('user_id')
           and ctx.same(assigned_to, (select ctx.verified(current_user, 'user_id'))) and ctx.differs(status, 'draft'));
create policy claims_provider_select on app.claims for select to claims_provider
    using (provider_id = ctx.variable('provider_id')
           and ctx.same(provider_id, (select ctx.verified(current_user, 'provider_id'))));
create policy claims_provider_insert on app.claims for insert to claims_provider
    with check (provider_id = ctx.variable('provider_id')
                and ctx.same(provider_id, (select ctx.entered(current_user, 'provider_id'))));
create policy claims_provider_update on app.claims for update to claims_provider
    using (provider_id = ctx.variable('provider_id')
           and ctx.same(provider_id, (select ctx.verified(current_user, 'provider_id'))));
create policy claims_patient_select on app.claims for select to claims_patient
    using (patient_id = ctx.variable('patient_id')
           and ctx.same(patient_id, (select ctx.verified(current_user, 'patient_id'))) and ctx.differs(status, 'draft'));
create policy claims_system_select on app.claims for select to claims_system using (true);
create policy claims_system_update on app.claims for update to claims_system using (true);
create policy claims_gate_select on app.claims for select to claims_gate
    using (assigned_to is null and status in ('submitted', 'pending_info', 'appealed')
           or assigned_to = ctx.variable('user_id')
             and ctx.same(assigned_to, (select ctx.verified(current_user, 'user_id'))));
create policy claims_gate_update on app.claims for update to claims_gate
    using (assigned_to is null and status in ('submitted', 'pending_info', 'appealed'))
    with check (assigned_to = ctx.variable('user_id')
                and ctx.same(assigned_to, (select ctx.entered(current_user, 'user_id'))));
create policy claims_recorder_select on app.claims for select to claims_recorder using (true);
create policy claims_reporting_select on app.claims for select to claims_reporting using (true);
