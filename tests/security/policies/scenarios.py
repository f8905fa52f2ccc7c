"""Scenarios of the guard beside the tables' lines: switching roles, calling functions, entering contexts, changing them."""

from typing import Any

from app.database.statements import load
from app.security.tokens import secret_hash
from tests.security.policies.probes import (
    CLAIM,
    EVENT,
    GIVEN_AWAY,
    PATIENT,
    TENANT_TABLES,
    TINAS_BY_ANA,
    TOMS_BY_ANA,
    Probe,
)
from tests.support.cast import Cast

BECOME = {
    "api": "claims_admin claims_processor claims_provider claims_patient",
    "worker": "claims_system",
    "auditor": "",
    "operator": "",
}
"""The roles that a login may switch to."""

CALLS = [
    ("owner", """
        app.check_assignment() app.check_event() app.check_invitation() app.check_organization() app.expected_totals()
        app.keep_last_admin() app.check_patient() app.refuse_blank() app.release_claims()
        app.validate_new_claim() app.apply_transition() app.rebuild_claim_totals() app.bump_claim_version()
        app.rebuild_diagnosis_codes() app.diagnosis_release_days()"""),
    ("trigger_definer", """
        app.add_organization_lookup() app.audit_row() app.enqueue_event() app.add_care_relationship() app.lock_last_admin()
        app.record_status_change() app.queue_total_change()"""),
    ("auth_definer", """
        app.limit_stored_responses() app.idempotency_usage() auth.add_organization(null,null)
        auth.add_user(null,null,null,null,null,null) auth.window_start(null) auth.end_sessions() auth.memberships(null,null)
        auth.open_invitation(null,null) auth.record_more_denials(null) auth.delete_expired_rate_limits()
        auth.unlock(null) auth.rate_limit_key(null)"""),
    ("auth_definer owner", """
        app.idempotency_quota() app.tenant_key(null) context.establish(null) context.is_valid(null,null,null)
        context.unsigned_id(null,null) context.verify_proof(null,null) context.verify_call(null,null)"""),
    ("auth_definer context_definer owner", """
        context.set_variables(null,null,null,null,null,null,null,null,null) context.is_operator() context.hmac_sha256(null,null,null)
        context.is_signed(null,null,null,null) context.is_valid_proof(null,null,null,null)
        context.raise_invalid_proof(null,null,null,null) context.database_role(null) context.signature_input()"""),
    ("auth_definer api", """
        auth.accept_invitation(null,null,null,null,null) auth.find_password_hash(null,null) auth.find_invitation(null,null,null)
        auth.find_logins(null,null,null) auth.refund_rate_limit(null,null,null,null,null) auth.record_failed_login(null,null,null,null,null)
        auth.open_session(null,null,null,null,null,null,null,null) auth.probe(null,null)
        auth.record_denial(null,null,null,null,null,null,null,null,null)
        auth.refresh(null,null,null,null) auth.register(null,null,null,null,null) auth.consume_rate_limit(null,null,null,null,null)"""),
    ("alma pia ana tom owner auth_definer api", "context.reset_session()"),
    ("auth_definer context_definer api", "context.begin_request(null,null,null,null,null,null,null)"),
    ("auth_definer worker", "app.flush_denials(null) app.apply_all_total_changes() app.seal_audit_logs() context.begin_job(null,null)"),
    ("auth_definer trigger_definer", "app.apply_total_changes(null) app.write_audit_entry(null,null)"),
    ("auth_definer system", "context.switch_event(null)"),
    ("auth_definer auditor", "app.verify_audit_logs() app.who_can_see(null,null)"),
    ("auth_definer worker auditor", "app.audit_heads()"),
    ("auth_definer audit_sealer", "app.audit_head() app.seal_organization(null,null,null) app.verify_organization(null)"),
    ("audit_sealer owner", "app.add_seal(null,null,null,null,null) app.cluster_epoch() app.audit_hash(null) app.seal_digest(null,null)"),
    ("as_alma as_pia as_ana as_tom owner", "app.row_policies(null,null)"),
    *((f"as_{who} auth_definer", f"app.row_policies_as_{role}(null,null)") for who, role in (
        ("alma", "admin"), ("pia", "processor"), ("ana", "provider"), ("tom", "patient"))),
    ("trigger_definer owner", "app.defer_job(null,null,null,null) app.claim_contribution(null,null)"),
    ("trigger_definer system owner", "app.event_job_type('')"),
    ("trigger_definer api", "app.queue_state()"),
    ("trigger_definer system", "app.mark_jobs_succeeded(null,null) app.ready_jobs(null,null)"),
    ("trigger_definer system", "app.renew_job_start(null) app.release_successor(null)"),
    ("system owner", """
        app.apply_event(null,null,null) app.record_job_failure(null,null,null) app.process_event_once(null)
        app.is_cancelled(null,null) app.skipped_claims(null,null) app.move_claims_for_event(null,null,null)
        app.process_admission(null,null,null) app.process_batch(null,null)
        app.process_discharge(null,null,null,null) app.revert_event(null,null,null,null,null,null) app.visit_of(null)
        app.visit_start(null) app.discharges_of_visit(null) app.cancelled_events(null,null) app.visit_key(null)
        app.is_same_event(null,null) app.is_after(null,null) app.copies(null) app.was_applied(null) app.claims_of_a_part()
        app.combine_effects(null,null) app.add_effect(null,null)"""),
    ("worker owner", "app.delete_old_jobs(null,null,null) app.rescue_jobs(null,null)"),
    ("alma trigger_definer", "app.retry_job(null)"),
    ("alma owner", "app.job_json(null) app.invitation_json(null,null,null,null,null,null,null,null) "
        "app.reassign_claims(null,null) app.user_json(null)"),
    ("alma pia owner", "app.update_status_bulk(null,null,null,null)"),
    ("alma ana owner", "app.import_claims(null,null) app.insert_claim(null) app.is_same_claim(null,null) "
        "app.reserve_import(null,null,null) app.line_claim_number(null,null) app.line_error(null,null) app.possible_duplicates(null)"),
    ("alma pia ana system owner", "app.error_json(null) app.conflict_message(null)"),
    ("pia auth_definer", "app.assign_next_claim()"),
    ("alma pia ana tom auth_definer", """
        app.store_response(null,null,null,null,null) app.reserve_idempotency_key(null,null,null) auth.log_out(null,null)
        auth.my_password_hash(null) auth.set_my_password(null,null,null,null,null)"""),
    ("alma pia ana tom trigger_definer", "app.record_access(null,null)"),
    ("alma pia ana tom owner", """
        app.prefix_tsquery('') app.plain_text('') app.description_words('') app.code_prefix('')
        app.audit_json(null) app.claim_json(null) app.diagnosis_code_json(null)
        app.event_json(null) app.job_result(null) app.from_cents(null) app.organization_json(null,null,null,null)
        app.readable_settings(null) app.patient_json(null)
        app.provider_json(null) app.settings_json(null) app.claim_totals_by_status(null,null)"""),
    ("alma pia ana tom owner auth_definer", "app.to_rfc3339(null)"),
    ("alma pia ana tom system auth_definer", "app.appeal_until(null) app.claim_limits() app.organization_days()"),
    ("alma pia ana tom system owner", """
        app.caller_role() app.check_transition(null,null,null) app.claim_errors(null) app.claim_statuses()
        app.find_transition(null,null) app.raise_illegal_transition(null,null) app.is_open_transition(null,null)
        app.diagnosis_code_error(null,null)
        app.job_may_decide(null) app.raise_forbidden(null)"""),
    ("alma pia ana tom system owner api", "app.icd10('')"),
    ("alma pia ana tom system owner auth_definer trigger_definer", "app.raise_invalid(null) app.raise_conflict(null) "
        "app.local_day('UTC',null) app.trim_number(null) app.is_clean_number(null) app.is_blank(null) app.text_errors(null)"),
    ("alma pia ana tom system owner auth_definer trigger_definer audit_sealer",
        "app.is_npi('') app.new_claim_number() app.organization_id() app.uuid7()"),
    ("alma pia ana tom system owner auth_definer context_definer trigger_definer audit_sealer reporter personal",
        "context.raise_unverified() context.variable(null)"),
    ("alma pia ana tom system owner auth_definer trigger_definer audit_sealer reporter personal", """
        context.read_id(null,null,null) context.differs(null,null) context.required_id(null)
        context.equal(gen_random_uuid(),gen_random_uuid()) context.equal(clock_timestamp()::text,'x')
        context.matches(null,null) context.verified_id(null)"""),
]  # fmt: skip
"""The callers of each function, its owner included. Every other role is refused."""

PERSONAL = {
    "patients": ("member_number", "first_name", "last_name", "date_of_birth", "email", "phone"),
    "claims": ("claim_number", "notes", "denial_reason", "status_reason"),
    "providers": ("email",),
    "claim_status_history": ("by_user_id", "reason"),
    "patient_status_events": ("visit_number", "facility", "notes"),
}
"""The columns that a reporting login reads only with the right to personal data."""

SIGNED = {
    query.signed[0]: query
    for resource in ("auth", "audit_logs", "rate_limits")
    for query in load(resource).all.values()
    if query.signed
}
"""The functions that are called with a proof, and the statement of the API that calls each."""


def signed_arguments(who: Cast) -> dict[str, dict[str, Any]]:
    """The arguments of each of SIGNED, for ana if it is one of IN; each returns one row."""
    token = secret_hash("invitation to north")
    refresh = str(who.organization).encode()
    return {
        "find_logins": {"email": "alma@north.test", "slug": None},
        "find_password_hash": {"email": "alma@north.test"},
        "find_invitation": {"tenant": who.organization, "token_hash": token},
        "record_failed_login": {"email": "alma@north.test", "slug": None, "request_id": "", "address": ""},
        "register": {"organization": "Mine", "email": "me@mine.test", "name": "Me", "password_hash": "x"},
        "accept_invitation": {"tenant": who.organization, "token_hash": token, "name": "Me", "password_hash": "x"},
        "refresh": {"old_hash": refresh, "successors": b"y" * 32, "seconds": 60},
        "record_denial": {
            "tenant": who.organization, "user_id": who.alma, "request_id": "", "address": "", "entity": "claims",
            "entity_id": None, "outcome": "x", "asked": None,
        },
        "open_session": {
            "tenant": who.organization, "user_id": who.alma, "session_id": who.anas_claim, "refresh_hash": b"x", "seconds": 60,
            "changed_at": None, "new_hash": "x",
        },
        "consume_rate_limit": {"subject": "x", "want": 1, "limit": 1, "seconds": 1},
        "refund_rate_limit": {"account": "x", "address": "y", "account_window": 1, "address_window": 2},
        "log_out": {"caller": who.ana, "refresh_hash": None},
        "my_password_hash": {"caller": who.ana},
        "set_my_password": {"caller": who.ana, "new_hash": "x", "changed_at": None, "refresh_hash": None, "seconds": 60},
    }  # fmt: skip


GOOD_PROOFS = ("", "anywhere")
BAD_PROOFS = (
    "none", "nothing", "longer", "changed", "another backend", "another key", "no such key", "key of contexts",
)  # fmt: skip
OTHER_TIMES = ("old", "early", "old anywhere", "early anywhere")
"""Proofs by matrix.py: valid ones for the own backend, or for any; invalid ones; and valid ones of another time."""
ONLY_OF_CALLS = ("another function", "one argument more")
IN = ("log_out", "my_password_hash", "set_my_password")
"""Functions of SIGNED that are called in a context; the others are called before there is one."""

QUEUED = "procrastinate.procrastinate_jobs"
ANY_JOBS = "array(select generate_series(1, 99)::bigint)"

SETS = "grant execute on function set_config(text, text, boolean) to public"
"""Without it no product role changes a variable during a statement; the policies hold all the same."""

SCENARIOS = [
    # The triggers of a claim.
    Probe("alma", f"insert into app.claims {CLAIM.format(30000000).format('{tom_patient}', '{ana_provider}')}", "INVAL"),
    Probe("alma", "insert into app.claims " + CLAIM.format(100).format("{south.tom_patient}", "{ana_provider}"), "INVAL"),
    Probe("alma", "update app.claims set status = 'paid' where claim_id = '{bens_claim}'", "TRANS"),
    Probe("alma", "update app.claims set assigned_to = '{ana}' where claim_id = '{bens_claim}'", "CLASH"),
    Probe("alma", "update app.claims set assigned_to = '{paul}' where claim_number = 'C-BEN-DRAFT'", "CLASH"),
    Probe("alma", "update app.users set active = false where user_id = '{pia}'; "
        "select from app.claims where claim_id = '{anas_claim}' and assigned_to is null", "1"),
    Probe("alma", f"insert into app.patients {PATIENT.replace('M-3', ' ')}", "INVAL"),
    Probe("alma", "update app.claims set assigned_to = gen_random_uuid() where claim_id = '{bens_claim}'", "INVAL"),
    Probe("alma", "update app.organizations set name = ' '", "INVAL"),
    Probe("auth_definer", "insert into app.users (user_id, email, name, role) values (app.uuid7(), 'b@b.test', ' ', 'admin')", "INVAL"),
    Probe("alma", "update app.providers set name = ' ' where provider_id = '{ana_provider}'", "INVAL"),
    Probe("alma", "update app.claims set notes = 'x'; select from app.claims where claim_id = '{bens_claim}' and version = 2", "1"),
    Probe("alma", f"insert into app.claims {TOMS_BY_ANA}; select from app.claim_status_history", "8"),
    Probe("alma", f"insert into app.claims {TINAS_BY_ANA}; select from app.care_relationships", "3"),
    Probe("alma", f"insert into app.claims {TOMS_BY_ANA}; select from app.claim_total_changes", "8"),
    Probe("alma", "update app.claims set status = 'voided' where claim_id = '{bens_claim}'; select from app.claim_total_changes", "9"),
    # The other tables' triggers.
    Probe("ana", f"insert into app.patients {PATIENT}; select from app.patients", "2"),
    Probe("alma", f"insert into app.patient_status_events {EVENT.format('{south.tom_patient}')}", "INVAL"),
    Probe("alma", f"insert into app.patient_status_events {EVENT.format('{tom_patient}')}; select from app.job_processing_logs", "3"),
    Probe("alma", "update app.organizations set timezone = 'Nowhere'", "INVAL"),
    Probe("alma", "update app.users set role = 'claims_processor' where user_id = '{alma}'", "CLASH"),
    Probe("alma", "update app.users set active = false where user_id = '{pia}'; update app.users set active = true; "
        "set local role none; {enter_pia}", "ENDED"),
    Probe("alma", "insert into app.invitations (email, role, token_hash) values ('pia@north.test', 'admin', '3')", "CLASH"),
    *(Probe("alma", f"{change}; select from app.audit_logs where request_id = 'test' and entity = '{table}'", "1")
        for table, change in (
            ("organizations", "update app.organizations set name = 'x'"),
            ("users", "update app.users set role = 'admin' where user_id = '{pia}'"),
            ("providers", "update app.providers set name = 'x' where provider_id = '{ana_provider}'"),
            ("patients", "update app.patients set phone = 'x' where patient_id = '{tom_patient}'"),
            ("care_relationships", "delete from app.care_relationships where provider_id = '{ana_provider}'"),
            ("claims", "update app.claims set notes = 'x' where claim_id = '{bens_claim}'"),
            ("patient_status_events", f"insert into app.patient_status_events {EVENT.format('{tom_patient}')}"),
            ("invitations", "delete from app.invitations"))),
    Probe("auth_definer", "select auth.add_organization('new', 'New'); select from auth.organization_lookup", "3"),
    # A trigger raises first; the policy refuses the row, too.
    Probe("ana", f"insert into app.patient_status_events {EVENT.format('{tina_patient}')}", "!",
        "alter table app.patient_status_events disable trigger user"),
    # A provider's context without a provider, which cannot be entered.
    Probe("stray", f"insert into app.patients {PATIENT}", "!"),
    # Foreign keys apply with all triggers disabled, and to every role.
    *(Probe("root", f"update {table} set {column} = '{value}' where organization_id = '{{organization}}' {where}", "23503",
            f"alter table {table} disable trigger user")
        for table, column, value, where in (
            ("app.users", "provider_id", "{south.ana_provider}", "and user_id = '{ana}'"),
            ("app.users", "patient_id", "{south.tom_patient}", "and user_id = '{tom}'"),
            ("app.care_relationships", "provider_id", "{south.ana_provider}", "and patient_id = '{tom_patient}'"),
            ("app.care_relationships", "patient_id", "{south.tom_patient}", "and patient_id = '{tom_patient}'"),
            ("app.claims", "patient_id", "{south.tom_patient}", ""),
            ("app.claims", "provider_id", "{south.ana_provider}", ""),
            ("app.claims", "assigned_to", "{south.pia}", ""),
            ("app.claim_status_history", "claim_id", "{south.anas_claim}", "and claim_id = '{bens_claim}'"),
            ("app.patient_status_events", "patient_id", "{south.tom_patient}", ""),
            ("app.patient_status_events", "provider_id", "{south.ana_provider}", ""),
            ("app.job_processing_logs", "event_id", "{south.toms_event}", "and event_id = '{toms_event}'"),
            ("app.job_processing_logs", "patient_id", "{south.tom_patient}", ""),
            ("app.invitations", "role = 'provider', provider_id", "{south.ana_provider}", ""),
            ("app.invitations", "role = 'patient', patient_id", "{south.tom_patient}", ""),
            ("app.idempotency_keys", "user_id", "{south.alma}", ""),
            ("auth.credentials", "email", "alma@south.test", "and email = 'alma@north.test'"),
            ("auth.sessions", "user_id", "{south.alma}", ""),
            ("auth.refresh_tokens", "session_id", "{south.alma}", ""))),
    # A context that was not entered, for the admin of south.
    *(Probe("forger", f"select from {table}", "28000") for table in TENANT_TABLES[:-3]),
    Probe("forger", "select invitation_id from app.invitations", "28000"),
    Probe("forger", "select app.reserve_idempotency_key('/api/claims', 'new', '')  -- app.idempotency_keys", "28000"),
    Probe("forger", "select app.record_access('read', 'audit_logs')  -- app.audit_logs", "28000"),
    # A proof of the API does not help if the context was not entered.
    *(Probe("forger", f"select from {{calls[{function} of south]}}  -- auth.{function}(", "28000") for function in IN),
    # The restrictive policies apply by themselves, whatever a grant, a trigger or another policy allows.
    *(Probe(who, sql.format(table), outcome, GIVEN_AWAY.format(table)) for table in TENANT_TABLES for who, sql, outcome in (
        ("alma", "select from {} where organization_id <> '{{organization}}'", "0"),
        ("alma", "insert into {} (organization_id) values ('{{south.organization}}')", "!"),
        ("alma", "update {} set organization_id = '{{south.organization}}'", "!"),
        ("forger", "select from {}", "28000"),
        # No row exists of an unknown organization: a scan starts with the check of the context all the same.
        ("forger", "set local app.organization_id = '00000000-0000-4000-8000-000000000000'; select from {}", "28000"),
        ("forger", "select from {} where organization_id = gen_random_uuid()", "28000"),
        ("forger", "update {} set organization_id = null where organization_id = gen_random_uuid()", "28000"),
        ("forger", "delete from {} where organization_id = gen_random_uuid()", "28000"),
        ("forger", "insert into {} (organization_id) values ('{{south.organization}}')", "28000"))),
    # A row cannot be moved out of one's scope, even if its column may be written.
    *(Probe(who, f"update {table} set {column} = '{{{target}}}'", "!",
            f"alter table {table} disable trigger user; grant update on {table} to {role}")
        for who, role, table, column, target in (
            ("pia", "claims_processor", "app.claims", "assigned_to", "paul"),
            ("ana", "claims_provider", "app.claims", "provider_id", "ben_provider"),
            ("ana", "claims_provider", "app.providers", "provider_id", "ben_provider"))),
    # A context that was entered, and then changed: another role, another variable.
    Probe("tom", "set local role claims_admin; select from app.claims", "28000"),
    Probe("tom", "set local app.role = 'admin'; set local role claims_admin; select from app.claims", "28000"),
    *(Probe("alma", f"set local app.{name} = '{value}'; select from app.claims", "28000") for name, value in (
        ("organization_id", "{south.organization}"), ("user_id", "{pia}"), ("session_id", "{pia}"), ("role", "claims_processor"),
        ("provider_id", "{ana_provider}"), ("patient_id", "{tom_patient}"), ("request_id", "x"), ("address", "x"), ("source", "job"))),
    # A context that is changed during a statement.
    Probe("alma", "set enable_indexscan = off; set enable_bitmapscan = off; "
        "select set_config('app.organization_id', '{south.organization}', true) from app.claims", "1", SETS),
    Probe("ana", "set enable_indexscan = off; set enable_bitmapscan = off; "
        "select set_config('app.provider_id', '{ben_provider}', true) from app.claims", "1", SETS),
    Probe("alma", "select context.required_id(null)", "28000"),
    # Before the scan reads its first row, and after the check whether it may start.
    Probe("alma", "with bent as materialized (select set_config('app.organization_id', '{south.organization}', true)) "
        "select from bent, app.claims", "0", SETS),
    # A context entered for writing is invalid for a read-only transaction, and the other way round.
    Probe("alma", "set transaction_read_only = on; select from app.claims", "28000"),
    # A variable that is no id.
    *(Probe(who, f"{variable} select {call}", "28000") for who, variable, call in (
        ("alma", "", "context.variable('none')"),
        ("root", "select set_config('app.user_id', 'abc', true);", "context.variable('user_id')"),
        ("root", "select set_config('app.user_id', repeat('x', 32), true);", "context.variable('user_id')"),
        ("root", "select set_config('app.organization_id', '', true);", "app.organization_id()"))),
    Probe("root", "select set_config('app.user_id', '', true); select from context.variable('user_id') as id where id is null", "1"),
    Probe("root", "select set_config('app.user_id', '', true); "
        "select from context.required_id('claims_admin', 'user_id') as id where id is null", "1"),
    # The state that a call leaves.
    *(Probe("alma", f"{left}; select context.reset_session(); {seen}", outcome,
            "grant execute on function pg_advisory_lock(bigint), pg_lock_status() to public") for left, seen, outcome in (
        ("set work_mem = '7MB'", "select where current_setting('work_mem') = '7MB'", "0"),
        ("set role claims_admin", "select where current_user = session_user", "1"),
        ("select pg_advisory_lock(7)", "select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "0"),
        ("declare left_open cursor for select 1", "fetch left_open", "34000"))),
    # A role that needs no signature bypasses no policy.
    Probe("operator", "select from app.claims", "0",
        "grant usage on schema app to claims_operator; grant select on app.claims to claims_operator"),
    # A reporting login: of the organization recorded for it, and without personal data unless that was granted.
    *(Probe("reporter", f"select {column} from app.{table}", "-") for table, columns in PERSONAL.items() for column in columns),
    *(Probe("personal", f"select {column} from app.{table}", rows) for table, rows in
        (("patients", "2"), ("claims", "6"), ("providers", "2"), ("claim_status_history", "7"), ("patient_status_events", "2"))
        for column in PERSONAL[table]),
    *(Probe(who, f"select ctid from app.{table}", "-") for who in ("reporter", "personal")  # no grant on a whole table
        for table in (*PERSONAL, "organizations", "care_relationships")),
    Probe("reporter", "set local app.organization_id = '{south.organization}'; select from app.claims", "28000",
        "insert into context.reporting_logins (login, organization_id) values ('another', '{south.organization}')"),
    Probe("root", "select set_config('app.organization_id', '{organization}', true); set session authorization claims_reporting; "
        "select from app.claims", "28000"),
    # Entering a context.
    Probe("api", "{enter_pia}; select from app.claims", "1"),
    Probe("api", "{enter_reading}; update app.claims set notes = 'x'", "25006"),
    *(Probe("api", f"{{enter_by {name}}}; select from app.claims", "1") for name in GOOD_PROOFS),
    *(Probe("api", f"{{enter_by {name}}}", "28000") for name in BAD_PROOFS),
    *(Probe("api", f"{{enter_by {name}}}", "CLOCK") for name in OTHER_TIMES),
    *(Probe("api", f"{{enter_but {name}}}", "28000") for name in (
        "organization_id", "user_id", "session_id", "request_id", "address", "source", "read_only", "not reading")),
    Probe("api", "{enter_by_line}", "28000"),
    Probe("api", "select context.begin_request('{organization}', '{pia}', '{pia}', '', '', 'api', false)", "28000"),
    Probe("api", "select context.begin_request('{organization}', '{pia}', null, '', '', 'sql', true)", "28000"),
    Probe("operator", "select context.begin_request('{organization}', '{pia}', null, '', '', 'sql', true)", "1",
        "grant usage on schema context to claims_operator; grant execute on function context.begin_request to claims_operator"),
    Probe("api", "{enter_mixed}", "ENDED"),
    Probe("api", "{enter_without_session}", "ENDED"),
    Probe("api", "{enter_by_anas_session}", "ENDED"),
    Probe("api", "{enter_pia}", "ENDED", "update auth.sessions set ended_at = now() where session_id = '{pia}'"),
    Probe("api", "{enter_pia}", "ENDED",
        "alter table app.users disable trigger user; update app.users set active = false where user_id = '{pia}'"),
    Probe("api", "{enter_pia}", "ENDED", "update app.organizations set suspended_at = now()"),
    Probe("worker", "select context.begin_job('{south.organization}', '{toms_event}')", "28000"),
    # Each function of the schema auth: with a proof of this call, and without. It finds its names with any search_path.
    *(Probe("ana" if function in IN else "api", f"select from {{calls[{f'{function} {name}'.strip()}]}}  -- auth.{function}(", expect)
        for function, query in SIGNED.items()
        for expect, names in (
            ("1", GOOD_PROOFS),
            ("CLOCK", OTHER_TIMES),
            ("28000", (*BAD_PROOFS, *ONLY_OF_CALLS, *(f"but {name}" for name in query.signed[1]))))
        for name in names),
    Probe("api", "select from app.queue_state()", "1"),
    # A job, and the queue: for the tenant of its event, in a context that was entered.
    *(Probe("system", f"select app.{call}; select from app.job_processing_logs where status = '{status}'", "1") for call, status in (
        ("process_batch('{toms_event}', 0)", "completed"), ("record_job_failure('{toms_event}', 'x', true)", "failed"))),
    Probe("system", "select from app.ready_jobs(null, 9)", "1"),
    *(Probe("system", f"select app.mark_jobs_succeeded(null, {ANY_JOBS}); set local role none; "
        f"select from {QUEUED} where status = '{status}'", "1") for status in ("succeeded", "todo")),
    Probe("system", "select context.switch_event('{toms_event}'); select from app.claims", "6"),
    Probe("system", "select context.switch_event('{south.toms_event}')", "28000"),
    *(Probe("worker", "select set_config('app.organization_id', '{south.organization}', true); set local role claims_system; " + call,
        "28000") for call in (
            "select from app.ready_jobs(null, 9)", f"select app.mark_jobs_succeeded(null, {ANY_JOBS})",
            "select app.renew_job_start(null)", "select app.release_successor(null)",
            "select context.switch_event('{south.toms_event}')")),
    *(Probe("worker", f"select from {call}", "1") for call in (
        "app.rescue_jobs('1 day', '1 day')", "app.delete_old_jobs(1, 1, 1)", "context.begin_job('{organization}', '{toms_event}')")),
    # Totals: one change of each organization applied, that of bens_claim, which adds no day and no status.
    Probe("worker", "select app.apply_all_total_changes(1); reset session authorization; select from app.claim_totals", "6"),
    # Denials that were only counted, of a minute that has ended: one of each organization.
    Probe("worker", "select from app.flush_denials(9) as closed where closed = 2", "1"),
    # The sealed audit log: no row if it is unchanged, one for each organization if not.
    Probe("worker", "select pg_current_xact_id(); select app.seal_audit_logs()", "P0001"),
    *(Probe(who, "select from app.audit_heads()", "2") for who in ("worker", "auditor")),
    Probe("auditor", "select from app.verify_audit_logs()", "0"),
    Probe("auditor", "select from app.verify_audit_logs()", "1",
        "update app.audit_seals set digest = 'x' where organization_id = '{organization}'"),
    # Callers that can see a row: alma, pia, ana, tom. Each by one policy; of ana's it is her provider's.
    Probe("auditor", "select from app.who_can_see('claims', '{anas_claim}')", "4"),
    Probe("auditor", "select from app.who_can_see('claims', '{anas_claim}') where policies = '{{claims_provider_select}}'", "1"),
    Probe("auditor", "select from app.who_can_see('auth.sessions', '{alma}')", "42809"),
    # Functions within a context.
    *(Probe(who, f"select from {call}", "1") for who, calls in (
        ("alma", "app.store_response('/','k',200,'[]','') app.record_access('read','audit_logs') "
            "app.record_access('read','claims','{anas_claim}','{tom_patient}') "
            "app.record_access('read','patients','{tom_patient}','{tom_patient}')"),
        ("ana", "app.claim_limits() app.organization_days() app.appeal_until(now())"),
        ("pia", "app.assign_next_claim()")) for call in calls.split()),
    # Of claims and patients claims_trigger_definer reads the ids alone.
    Probe("trigger_definer", "select amount_cents from app.claims", "-"),
    Probe("trigger_definer", "select last_name from app.patients", "-"),
    # Two admins who demote each other wait for one lock, which claims_trigger_definer acquires.
    Probe("alma", "update app.users set role = 'claims_processor' where user_id = '{pia}'; reset session authorization; "
        "select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "1",
        "update app.users set role = 'admin' where user_id = '{pia}'"),
    Probe("alma", "select from app.reserve_idempotency_key('/','k','')", "0"),
    Probe("alma", "select from app.retry_job('{toms_job}')", "1", "update app.job_processing_logs set status = 'failed'"),
]  # fmt: skip
