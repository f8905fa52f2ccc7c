"""Rights of every role on every table: statements and their outcomes, as data. matrix.py runs them, test_mutants.py checks them.

LINES are statements that every role runs. An outcome is the number of rows; "ok" for a statement without one; "-" where a grant
is missing, "!" where row-level security refuses a row, or else the SQLSTATE. A role that is not named gets "-", and as_<name> the
outcome of <name>. Updates and deletes have no where and read no column, so that no policy for select applies in place of theirs.
alma, pia, ana and tom act in north; every table has as many rows again in south.
"""

import re
from typing import NamedTuple


class Probe(NamedTuple):
    """who: one of matrix.py's PEOPLE.

    sql: the last statement's outcome counts. arrange: the administrator's statements before.
    """

    who: str
    sql: str
    expect: str
    arrange: str = ""


SEED = """
insert into app.claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status) values
    ('C-ANA-DRAFT', '{tom_patient}', '{ana_provider}', 'E11.9', 100, current_date, 'draft'),
    ('C-BEN-DRAFT', '{tina_patient}', '{ben_provider}', 'E11.9', 100, current_date, 'draft'),
    ('C-PAUL', '{tina_patient}', '{ben_provider}', 'E11.9', 100, current_date, 'submitted'),
    ('C-REVIEW', '{tina_patient}', '{ben_provider}', 'E11.9', 100, current_date, 'submitted');
update app.claims set assigned_to = '{paul}' where claim_number = 'C-PAUL';
update app.claims set status = 'under_review' where claim_number = 'C-REVIEW';
insert into app.patient_status_events (patient_id, event_type, occurred_at) values ('{tina_patient}', 'admission', now());
insert into app.invitations (email, role, token_hash) values ('joined@' || '{organization}' || '.test', 'admin', '{organization}');
set local role claims_auth_definer;
update app.invitations set accepted_at = now() where email like 'joined%';
insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at)
    values ('{organization}', '{organization}', '{alma}', now() + interval '1 day');
insert into auth.rate_limits values ('{organization}', now(), 0, 0);
insert into auth.idempotency_usage values ('{organization}', null, now());
insert into auth.denial_counters values ('{organization}', '{alma}', now() - interval '1 hour', 60, 1, now(), now());
set local role none;
set local session_replication_role = replica;  -- a trigger refuses the assignment of a draft; the policy hides one, too
update app.claims set assigned_to = '{pia}' where claim_number = 'C-ANA-DRAFT' and organization_id = '{organization}';
"""
"""The rows of a tenant beside the cast, inserted by alma: a row beyond each scope, so that a weaker policy is found."""

CLAIM = "(patient_id, provider_id, diagnosis_code, amount_cents, service_date) values ('{{}}', '{{}}', 'E11.9', {}, current_date)"
TOMS_BY_ANA = CLAIM.format(100).format("{tom_patient}", "{ana_provider}")
TOMS_BY_BEN = CLAIM.format(100).format("{tom_patient}", "{ben_provider}")
TINAS_BY_ANA = CLAIM.format(100).format("{tina_patient}", "{ana_provider}")
PATIENT = "(member_number, first_name, last_name, date_of_birth) values ('M-3', 'Ted', 'North', '1980-02-03')"
EVENT = "(patient_id, event_type, occurred_at) values ('{}', 'discharge', now())"
USER = "(user_id, email, name, role) values (gen_random_uuid(), 'new@north.test', 'New', 'admin')"

LINES = [
    ("select from app.organizations",
        "alma 1, pia 1, ana 1, tom 1, system 1, auth_definer 1, context_definer 1, owner 0, reporter 1, personal 1"),
    ("select timezone from app.organizations", "alma 1, pia 1, system 1, auth_definer 1, reporter 1, personal 1, owner 0"),
    ("insert into app.organizations (organization_id, slug, name) values (gen_random_uuid(), 'new', 'New')", "auth_definer !, owner !"),
    ("insert into app.organizations (organization_id, suspended_at) values ('{organization}', now())", "owner !"),
    ("update app.organizations set name = 'x'", "alma 1, owner 0"),
    ("update app.organizations set suspended_at = null", "owner 0"),
    ("delete from app.organizations", "owner 0"),
    ("select from app.users", "alma 7, pia 1, ana 1, tom 1, auth_definer 7, context_definer 7, owner 0"),
    ("select email from app.users", "alma 7, pia 1, ana 1, tom 1, auth_definer 7, owner 0"),
    (f"insert into app.users {USER}", "auth_definer 1, owner !"),
    ("insert into app.users (organization_id) values ('{organization}')", "owner !"),
    ("update app.users set active = true", "alma 7, owner 0"),
    ("update app.users set email = email", "owner 0"),
    ("delete from app.users", "owner 0"),
    ("select from app.providers", "alma 2, pia 2, ana 2, tom 1, system 2, owner 0, reporter 2, personal 2"),
    ("insert into app.providers (npi, name) values ('1003000126', 'New')", "alma 1, owner !"),
    ("insert into app.providers (organization_id) values ('{organization}')", "owner !"),
    ("update app.providers set specialty = 'x'", "alma 2, ana 1, owner 0"),
    ("update app.providers set npi = null", "alma 23502, owner 0"),
    ("update app.providers set created_at = now()", "owner 0"),
    ("delete from app.providers", "owner 0"),
    ("select from app.patients", "alma 2, pia 1, ana 1, tom 1, system 2, trigger_definer 2, owner 0, reporter 2, personal 2"),
    (f"insert into app.patients {PATIENT}", "alma 1, ana 1, owner !"),
    ("insert into app.patients (organization_id) values ('{organization}')", "owner !"),
    ("update app.patients set phone = 'x'", "alma 2, owner 0"),
    ("update app.patients set created_at = now()", "owner 0"),
    ("delete from app.patients", "owner 0"),
    ("select from app.care_relationships", "alma 2, ana 1, tom 1, trigger_definer 2, owner 0, reporter 2, personal 2"),
    ("insert into app.care_relationships (provider_id, patient_id) values ('{ana_provider}', '{tina_patient}')",
        "alma 1, trigger_definer 1, owner !"),
    ("insert into app.care_relationships values ('{south.organization}', '{south.ana_provider}', '{south.tina_patient}')",
        "trigger_definer !, owner !"),
    ("update app.care_relationships set created_at = now()", "owner 0"),
    ("delete from app.care_relationships", "alma 2, owner 0"),
    ("select from app.claims", "alma 6, pia 1, ana 2, tom 1, system 6, auth_definer 3, trigger_definer 6, owner 0, reporter 6, personal 6"),
    (f"insert into app.claims {TOMS_BY_ANA}", "alma 1, ana 1, as_alma 42501, as_ana 42501, owner TRANS"),
    (f"insert into app.claims {TOMS_BY_BEN}", "alma 1, ana !, as_alma 42501, as_ana 42501, owner TRANS"),
    ("insert into app.claims (organization_id) values ('{organization}')", "owner TRANS"),
    ("update app.claims set notes = 'x'", "alma 6, pia 1, ana 2, owner 0"),
    ("update app.claims set status_reason = 'x'", "alma 6, pia 1, ana 2, system 6, owner 0"),
    ("update app.claims set assigned_to = '{pia}'", "alma CLASH, auth_definer 1, owner 0"),
    ("update app.claims set assigned_to = '{paul}'", "alma CLASH, auth_definer !, owner 0"),
    ("update app.claims set assigned_to = '{paul}' where status <> 'draft'", "alma 4, auth_definer !, owner 0"),
    ("update app.claims set status_event_id = null", "system 6, owner 0"),
    ("update app.claims set amount_cents = 1", "owner 0"),
    ("delete from app.claims", "owner 0"),
    ("select from app.claim_status_history", "alma 7, pia 1, ana 2, tom 1, system 7, owner 0, reporter 7, personal 7"),
    ("insert into app.claim_status_history (claim_id, version, to_status, by_role, source) "
        "values ('{anas_claim}', 9, 'paid', 'admin', 'sql')", "trigger_definer 1, owner !"),
    ("insert into app.claim_status_history (organization_id, claim_id, version, to_status, by_role, source) "
        "values ('{south.organization}', '{south.anas_claim}', 9, 'paid', 'admin', 'sql')", "trigger_definer !, owner !"),
    ("update app.claim_status_history set reason = 'x'", ""),
    ("delete from app.claim_status_history", ""),
    ("select from app.claim_totals", "alma 1, ana 1, trigger_definer 2, owner 0"),
    ("insert into app.claim_totals values ('{organization}', '{ana_provider}', current_date, 'paid', 1, 1, 1, 1, 1, 1)",
        "trigger_definer 1, owner !"),
    ("insert into app.claim_totals values ('{south.organization}', '{ana_provider}', current_date, 'paid', 1, 1, 1, 1, 1, 1)",
        "trigger_definer !, owner !"),
    ("update app.claim_totals set count = 0", "trigger_definer 2, owner 0"),
    ("update app.claim_totals set scope_id = null", "owner 0"),
    ("delete from app.claim_totals", "trigger_definer 2, owner 0"),
    ("select from app.claim_total_changes", "alma 7, ana 1, trigger_definer 7, owner 0"),
    ("insert into app.claim_total_changes values ('{organization}', default, '{ana_provider}', current_date, 'paid', 1, 1, 1, 1, 1, 1)",
        "trigger_definer 1, owner !"),
    ("insert into app.claim_total_changes values "
        "('{south.organization}', default, '{ana_provider}', current_date, 'paid', 1, 1, 1, 1, 1, 1)", "trigger_definer !, owner !"),
    ("update app.claim_total_changes set count = 0", "owner 0"),
    ("delete from app.claim_total_changes", "trigger_definer 7, owner 0"),
    ("select from app.patient_status_events", "alma 2, pia 1, ana 1, tom 1, system 2, auth_definer 2, owner 0, reporter 2, personal 2"),
    (f"insert into app.patient_status_events {EVENT.format('{tom_patient}')}", "alma 1, ana 1, owner INVAL"),
    (f"insert into app.patient_status_events {EVENT.format('{tina_patient}')}", "alma 1, ana INVAL, owner INVAL"),
    ("insert into app.patient_status_events (organization_id) values ('{organization}')", "owner INVAL"),
    ("update app.patient_status_events set notes = 'x'", "owner 0"),
    ("delete from app.patient_status_events", "owner 0"),
    ("select from app.job_processing_logs", "alma 2, pia 1, ana 1, tom 1, system 2, trigger_definer 2, owner 0"),
    ("insert into app.job_processing_logs (job_type, event_id, patient_id) "
        "values ('discharge', '{toms_event}', '{tom_patient}')", "trigger_definer 23505, owner !"),
    ("insert into app.job_processing_logs (organization_id, job_type, event_id, patient_id) "
        "values ('{south.organization}', 'discharge', '{south.toms_event}', '{south.tom_patient}')", "trigger_definer !, owner !"),
    ("update app.job_processing_logs set error = 'x'", "system 2, trigger_definer 2, owner 0"),
    ("update app.job_processing_logs set attempts = 0", "system 2, trigger_definer 2, owner 0"),
    ("update app.job_processing_logs set result = '{{}}'", "system 2, owner 0"),
    ("update app.job_processing_logs set job_type = 'x'", "owner 0"),
    ("delete from app.job_processing_logs", "owner 0"),
    ("select distinct entity_id from app.audit_logs where entity = 'claims'", "alma 6, tom 1, audit_sealer 6, owner 0"),
    ("select distinct entity from app.audit_logs where entity in ('claims', 'patients', 'providers')",
        "alma 3, tom 2, audit_sealer 3, owner 0"),
    ("insert into app.audit_logs (actor_role, action, entity) values ('admin', 'read', 'claims')", "trigger_definer 1, owner !"),
    ("insert into app.audit_logs (organization_id, actor_role, action, entity) "
        "values ('{south.organization}', 'admin', 'read', 'claims')", "trigger_definer !, owner !"),
    ("insert into app.audit_logs (actor_role, action, entity, written_by) values ('admin', 'read', 'claims', '0')", "owner !"),
    ("update app.audit_logs set outcome = 'x'", ""),
    ("delete from app.audit_logs", ""),
    ("select from app.audit_seals", "audit_sealer 1, owner 0"),
    ("insert into app.audit_seals (number, cluster_epoch, up_to, sealed_at, audit_ids, hashes, digest) "
        "values (9, 1, '0', now(), '{{}}', '{{}}', '')", "audit_sealer 1, owner !"),
    ("insert into app.audit_seals (organization_id) values ('{organization}')", "owner !"),
    ("update app.audit_seals set digest = ''", ""),
    ("delete from app.audit_seals", ""),
    ("select invitation_id from app.invitations", "alma 2, auth_definer 2, owner 0"),
    ("select token_hash from app.invitations", "auth_definer 2, owner 0"),
    ("insert into app.invitations (email, role, token_hash) values ('new2@north.test', 'admin', '2')", "alma 1, owner !"),
    ("insert into app.invitations (organization_id) values ('{organization}')", "owner !"),
    ("update app.invitations set accepted_at = null", "auth_definer 2, owner 0"),
    ("update app.invitations set role = 'admin'", "owner 0"),
    ("delete from app.invitations", "alma 1, owner 0"),
    ("select from app.idempotency_keys", "auth_definer 1, owner 0"),
    ("insert into app.idempotency_keys (user_id, path, key, body_hash) values ('{alma}', '/', 'new', '')", "auth_definer 1, owner !"),
    ("insert into app.idempotency_keys (organization_id, user_id, path, key, body_hash) "
        "values ('{south.organization}', '{south.alma}', '/', 'new', '')", "auth_definer !, owner !"),
    ("update app.idempotency_keys set status = 200", "auth_definer 1, owner 0"),
    ("delete from app.idempotency_keys", "auth_definer 1, owner 0"),
    ("select from app.claim_transitions limit 3", "alma 3, pia 3, ana 3, tom 3, system 3, owner 0"),
    ("insert into app.claim_transitions values ('paid', 'draft', 'admin')", "owner !"),
    ("update app.claim_transitions set requires = null where false", "owner 0"),
    ("delete from app.claim_transitions where false", "owner 0"),
    ("select from app.diagnosis_codes limit 3", "alma 3, pia 3, ana 3, tom 3, system 3, owner 0"),
    ("insert into app.diagnosis_codes values ('X', default, default, true, 'X')", "owner !"),
    ("update app.diagnosis_codes set billable = true where false", "owner 0"),
    ("delete from app.diagnosis_codes where false", "owner 0"),
    ("select from auth.credentials", "auth_definer 14, owner 0"),
    ("insert into auth.credentials values ('alma@north.test', '{organization}', 'x')", "auth_definer 23505, owner !"),
    ("update auth.credentials set changed_at = now()", "auth_definer 14, owner 0"),
    ("delete from auth.credentials", "owner 0"),
    ("select from auth.sessions", "auth_definer 14, context_definer 7, owner 0"),
    ("insert into auth.sessions values ('{organization}', gen_random_uuid(), '{alma}')", "auth_definer 1, owner !"),
    ("update auth.sessions set ended_at = now()", "auth_definer 14, owner 0"),
    ("delete from auth.sessions", "auth_definer 14, owner 0"),
    ("select from auth.refresh_tokens", "auth_definer 2, owner 0"),
    ("insert into auth.refresh_tokens values ('x', '{organization}', '{alma}', now(), now())", "auth_definer 1, owner !"),
    ("update auth.refresh_tokens set replaced_at = now()", "auth_definer 2, owner 0"),
    ("delete from auth.refresh_tokens", "auth_definer 2, owner 0"),
    ("select from auth.rate_limits", "auth_definer 2, owner 0"),
    ("insert into auth.rate_limits values ('x', now(), 0, 0)", "auth_definer 1, owner !"),
    ("update auth.rate_limits set used = 0", "auth_definer 2, owner 0"),
    ("delete from auth.rate_limits", "auth_definer 2, owner 0"),
    ("select from auth.denial_counters", "auth_definer 2, owner 0"),
    ("insert into auth.denial_counters values ('{organization}', '{pia}', now(), 1)", "auth_definer 1, owner !"),
    ("update auth.denial_counters set more = 0", "auth_definer 2, owner 0"),
    ("delete from auth.denial_counters", "auth_definer 2, owner 0"),
    ("select from auth.idempotency_usage", "auth_definer 2, owner 0"),
    ("insert into auth.idempotency_usage values (gen_random_uuid(), now(), now())", "auth_definer 1, owner !"),
    ("update auth.idempotency_usage set full_until = null", "auth_definer 2, owner 0"),
    ("delete from auth.idempotency_usage", "owner 0"),
    ("select from auth.organization_lookup", "auth_definer 2, trigger_definer 2, owner 0"),
    ("insert into auth.organization_lookup (organization_id, slug) values ('{organization}', 'north')", "trigger_definer 23505, owner !"),
    ("insert into auth.organization_lookup (organization_id, slug, daily_seal_at) values ('{organization}', 'x', now())", "owner !"),
    ("update auth.organization_lookup set slug = null", "trigger_definer 23502, owner 0"),
    ("update auth.organization_lookup set organization_id = null", "owner 0"),
    ("update auth.organization_lookup set daily_seal_at = now()", "auth_definer 2, owner 0"),
    ("delete from auth.organization_lookup", "owner 0"),
    ("select distinct organization_id from auth.unsealed_entries", "auth_definer 2, owner 0"),
    ("insert into auth.unsealed_entries (organization_id) values ('{organization}')", "trigger_definer 1, owner !"),
    ("insert into auth.unsealed_entries values ('{organization}', '0')", "owner !"),
    ("update auth.unsealed_entries set written_by = '0'", "owner 0"),
    ("delete from auth.unsealed_entries where false", "auth_definer 0, owner 0"),
    ("select from context.keys", "auth_definer 2, context_definer 2, owner 0"),
    ("insert into context.keys values ('x', repeat('x', 64)::bytea, repeat('x', 64)::bytea)", "owner !"),
    ("update context.keys set kid = 'x'", "owner 0"),
    ("delete from context.keys", "owner 0"),
    ("select from context.reporting_logins", "auth_definer 1, owner 0"),
    ("insert into context.reporting_logins (login, organization_id) values ('x', '{organization}')", "owner !"),
    ("update context.reporting_logins set login = 'x'", "owner 0"),
    ("delete from context.reporting_logins", "owner 0"),
    ("select from procrastinate.procrastinate_periodic_defers", "worker 0, owner 0"),
    ("insert into procrastinate.procrastinate_periodic_defers default values", "worker 23502, owner 23502"),
    ("update procrastinate.procrastinate_periodic_defers set id = 1", "worker 0, owner 0"),
    ("delete from procrastinate.procrastinate_periodic_defers", "worker 0, owner 0"),
    ("select from procrastinate.procrastinate_workers", "worker 1, trigger_definer 1, owner 1"),
    ("insert into procrastinate.procrastinate_workers default values", "worker 1, owner 1"),
    ("update procrastinate.procrastinate_workers set last_heartbeat = now()", "worker 1, owner 1"),
    ("delete from procrastinate.procrastinate_workers", "worker 1, owner 1"),
    ("select from procrastinate.procrastinate_jobs", "worker 2, trigger_definer 2, owner 2"),
    ("set search_path = procrastinate; insert into procrastinate.procrastinate_jobs (queue_name, task_name) values ('x', 'x')",
        "worker 1, trigger_definer 1, owner 1"),
    ("update procrastinate.procrastinate_jobs set attempts = 0", "worker 2, trigger_definer 2, owner 2"),
    ("update procrastinate.procrastinate_jobs set priority = 0", "worker 2, owner 2"),
    ("set search_path = procrastinate; delete from procrastinate.procrastinate_jobs", "worker 2, owner 2"),
    ("select from procrastinate.procrastinate_events limit 1", "worker 1, trigger_definer 1, owner 1"),
    ("select id from procrastinate.procrastinate_events limit 1", "worker 1, owner 1"),
    ("insert into procrastinate.procrastinate_events default values", "worker 23502, trigger_definer 23502, owner 23502"),
    ("update procrastinate.procrastinate_events set at = now() where false", "worker 0, owner 0"),
    ("delete from procrastinate.procrastinate_events where false", "worker 0, owner 0"),
    ("select from schema_admin.state", "api 1, worker 1, auditor 1, owner 1"),
    ("insert into schema_admin.state (files, catalog) values ('', '')", "owner 23505"),
    ("update schema_admin.state set files = ''", "owner 1"),
    ("delete from schema_admin.state", "owner 1"),
    *((f"{command} schema_admin.{table} {rest}", f"owner {outcome}")
        for table, key, unfilled in (("_yoyo_log", "id", 23502), ("_yoyo_migration", "migration_id", 23502),
                                     ("_yoyo_version", "version", 23502), ("yoyo_lock", "pid", 23502),
                                     ("facts_applied", "fact", 23502), ("applied_files", "path", 23502),
                                     ("diagnosis_releases", "valid_from", 23502))
        for command, rest, outcome in (("select from", "limit 0", 0), ("insert into", "default values", unfilled),
                                       ("update", f"set {key} = null where false", 0), ("delete from", "where false", 0))),
]  # fmt: skip

TABLES = sorted({re.search(r"(?:from|into|update) ((?!procrastinate;)\w+\.\w+)", sql)[1] for sql, _ in LINES})  # type: ignore[index]
TENANT_TABLES = (
    "app.organizations", "app.users", "app.providers", "app.patients", "app.care_relationships", "app.claims",
    "app.claim_status_history", "app.claim_totals", "app.claim_total_changes", "app.patient_status_events",
    "app.job_processing_logs", "app.audit_logs", "app.audit_seals", "app.invitations", "app.idempotency_keys",
)  # fmt: skip
GIVEN_AWAY = (
    "alter table {0} disable trigger user; grant select, insert, update, delete on {0} to claims_admin; "
    "create policy probe on {0} to claims_admin using (true) with check (true)"
)
"""Everything about a table but its two restrictive policies."""
RECORDED = ("app.audit_logs", "app.audit_seals", "app.claim_status_history")
"""Not even the owner may truncate these."""
