"""What a few may try of the guard beside the tables' lines: becoming a role, calling a function, entering a context, bending one."""

from tests.guard_probes import CLAIM, EVENT, GIVEN_AWAY, PATIENT, TENANT_TABLES, TINAS_BY_ANA, TOMS_BY_ANA, Probe

BECOME = {
    "api": "claims_admin claims_processor claims_provider claims_patient",
    "worker": "claims_system",
    "auditor": "",
}
"""Which roles a login may become."""

CALLS = [
    ("owner", """
        app.check_assignment() app.check_event() app.check_invitation() app.check_organization() app.counted_tallies()
        app.keep_last_admin() app.make_claim() app.move_claim() app.recount_claim_tallies() app.touch_claim()"""),
    ("recorder", "app.add_tenant() app.audit_row() app.enqueue_event() app.link_care() app.record_status() app.tally_claim()"),
    ("gate", """
        auth.add_organization(null,null) auth.add_user(null,null,null,null,null,null) auth.end_sessions() auth.sweep_windows()"""),
    ("gate owner", "app.tenant_key(null) ctx.at_door() ctx.door() ctx.own_mac(null)"),
    ("gate usher owner", """
        ctx.assume(null) ctx.mac(null,null,null) ctx.role_name(null) ctx.stated() ctx.verify(null,null,null,null)"""),
    ("gate api", """
        auth.accept_invitation(null,null,null,null) auth.find_hash(null) auth.find_invitation(null,null) auth.find_logins(null,null)
        auth.forgive(null,null) auth.login_failed(null,null,null,null) auth.open_session(null,null,null,null,null,null,null)
        auth.record_denial(null,null,null,null,null,null,null,null) auth.refresh(null,null,null) auth.register(null,null,null,null)
        auth.take(null,null,null,null) ctx.is_known(null) ctx.knock(null,null,null)"""),
    ("gate usher api", "ctx.enter(null,null,null,null,null,null,null)"),
    ("gate worker", "app.fold_claim_tallies() app.seal_audit_logs() ctx.enter_job(null,null)"),
    ("gate recorder", "app.fold_organization(null)"),
    ("gate system", "ctx.turn_to(null)"),
    ("gate auditor", "app.verify_audit_logs() app.who_can_see(null,null)"),
    ("gate worker auditor", "app.audit_heads()"),
    ("gate sealer", "app.audit_head() app.seal_organization(null,null) app.verify_organization(null)"),
    ("sealer owner", "app.add_seal(null,null,null,null,null) app.audit_era() app.audit_hash(null) app.seal_digest(null,null)"),
    ("as_alma as_pia as_ana as_tom owner", "app.finds(null,null)"),
    *((f"as_{who} gate", f"app.sees_as_{role}(null,null)") for who, role in (
        ("alma", "admin"), ("pia", "processor"), ("ana", "provider"), ("tom", "patient"))),
    ("recorder owner", "app.defer_job(null,null,null,null) app.tally_of(null,null)"),
    ("recorder api", "ctx.queue_state()"),
    ("recorder system", "app.end_jobs(null) app.waiting_jobs(null)"),
    ("system owner", """
        app.apply_event(null) app.fail_job(null,null,null,null) app.finish_event(null,null) app.is_undone(null,null)
        app.left_alone(null,null) app.move_claims(null,null,null) app.review_submitted(null) app.run_job(null,null,null)
        app.settle_visit(null) app.undo_last(null,null,null,null) app.visit_days(null)"""),
    ("worker owner", "app.forget_jobs(null,null,null) app.rescue_jobs(null,null)"),
    ("alma recorder", "app.retry_job(null)"),
    ("alma owner", "app.job_json(null) app.reassign_claims(null,null) app.user_json(null)"),
    ("alma pia owner", "app.bulk_move(null,null,null,null)"),
    ("alma ana owner", "app.import_claims(null,null) app.is_same_claim(null,null)"),
    ("alma pia ana system owner", "app.refusal(null)"),
    ("pia gate", "app.take_next_claim()"),
    ("alma pia ana tom gate", """
        app.keep_answer(null,null,null,null,null) app.take_key(null,null,null) auth.log_out(null) auth.my_password_hash()
        auth.set_my_password(null)"""),
    ("alma pia ana tom gate recorder", "app.record_act(null,null)"),
    ("alma pia ana tom owner", """
        app.all_words('') app.audit_json(null) app.claim_json(null) app.diagnosis_code_json(null)
        app.event_json(null) app.major_units(null) app.organization_json(null,null,null) app.patient_json(null)
        app.provider_json(null) app.settings_json(null) app.tallied_claims(null,null) app.utc(null)"""),
    ("alma pia ana tom system gate", "app.appeal_window_days() app.claim_limits()"),
    ("alma pia ana tom system owner", """
        app.caller_role() app.check_move(null,null,null) app.claim_problems(null) app.claim_statuses()
        app.legal_move(null,null) app.refuse_move(null,null)"""),
    ("alma pia ana tom system owner api", "app.icd10('')"),
    ("alma pia ana tom system owner gate recorder", "app.refuse(null) app.refuse_now(null)"),
    ("alma pia ana tom system owner gate recorder sealer", "app.is_npi('') app.new_claim_number() app.organization_id() app.uuid7()"),
    ("alma pia ana tom system owner gate usher recorder sealer", "ctx.entered(null) ctx.same(null,null)"),
]  # fmt: skip
"""Who may call which functions, its owner among them; everybody else is refused."""

QUEUED = "procrastinate.procrastinate_jobs"
ANY_JOBS = "array(select generate_series(1, 99)::bigint)"

SCENARIOS = [
    # The triggers of a claim.
    Probe("alma", f"insert into app.claims {CLAIM.format(30000000).format('{tom_patient}', '{ana_provider}')}", "INVAL"),
    Probe("alma", "insert into app.claims " + CLAIM.format(100).format("{south.tom_patient}", "{ana_provider}"), "INVAL"),
    Probe("alma", "update app.claims set status = 'paid' where claim_id = '{bens_claim}'", "TRANS"),
    Probe("alma", "update app.claims set assigned_to = '{ana}' where claim_id = '{bens_claim}'", "CLASH"),
    Probe("alma", "update app.claims set notes = 'x'; select from app.claims where claim_id = '{bens_claim}' and version = 2", "1"),
    Probe("alma", f"insert into app.claims {TOMS_BY_ANA}; select from app.claim_status_history", "8"),
    Probe("alma", f"insert into app.claims {TINAS_BY_ANA}; select from app.care_relationships", "3"),
    Probe("alma", f"insert into app.claims {TOMS_BY_ANA}; select from app.claim_tally_changes", "8"),
    Probe("alma", "update app.claims set status = 'voided' where claim_id = '{bens_claim}'; select from app.claim_tally_changes", "9"),
    # The other tables' triggers.
    Probe("ana", f"insert into app.patients {PATIENT}; select from app.patients", "2"),
    Probe("alma", f"insert into app.patient_status_events {EVENT.format('{south.tom_patient}')}", "INVAL"),
    Probe("alma", f"insert into app.patient_status_events {EVENT.format('{tom_patient}')}; select from app.job_processing_logs", "3"),
    Probe("alma", "update app.organizations set timezone = 'Nowhere'", "INVAL"),
    Probe("alma", "update app.users set role = 'claims_processor' where user_id = '{alma}'", "CLASH"),
    Probe("alma", "update app.users set active = false where user_id = '{pia}'; update app.users set active = true; "
        "set local role none; {enter_pia}", "28000"),
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
    Probe("gate", "select auth.add_organization('new', 'New'); select from auth.tenants", "3"),
    # What a trigger says first, the policy says too.
    Probe("ana", f"insert into app.patient_status_events {EVENT.format('{tina_patient}')}", "!",
        "alter table app.patient_status_events disable trigger user"),
    # A provider's context that names no provider, as none is entered.
    Probe("stray", f"insert into app.patients {PATIENT}", "!"),
    # Keys hold where all triggers are off, and for everybody.
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
    # A context that nobody entered, for the admin of south.
    *(Probe("forger", f"select from {table}", "28000") for table in TENANT_TABLES[:-3]),
    Probe("forger", "select invitation_id from app.invitations", "28000"),
    Probe("forger", "select app.take_key('/api/claims', 'new', '')  -- app.idempotency_keys", "28000"),
    Probe("forger", "select app.record_act('read', 'claims')  -- app.audit_logs", "28000"),
    *(Probe("forger", f"select auth.log_out({token})", "28000") for token in ("null", "'x'")),
    # The two restrictive policies hold by themselves, whatever a grant, a trigger or another policy lets through.
    *(Probe(who, sql.format(table), outcome, GIVEN_AWAY.format(table)) for table in TENANT_TABLES for who, sql, outcome in (
        ("alma", "select from {} where organization_id <> '{{organization}}'", "0"),
        ("alma", "insert into {} (organization_id) values ('{{south.organization}}')", "!"),
        ("alma", "update {} set organization_id = '{{south.organization}}'", "!"),
        ("forger", "select from {}", "28000"),
        ("forger", "insert into {} (organization_id) values ('{{south.organization}}')", "28000"))),
    # A row can't be moved out of one's scope, where its column could be written.
    *(Probe(who, f"update {table} set {column} = '{{{target}}}'", "!",
            f"alter table {table} disable trigger user; grant update on {table} to {role}")
        for who, role, table, column, target in (
            ("pia", "claims_processor", "app.claims", "assigned_to", "paul"),
            ("ana", "claims_provider", "app.claims", "provider_id", "ben_provider"),
            ("ana", "claims_provider", "app.providers", "provider_id", "ben_provider"))),
    # A context that was entered, and then bent: another role, another variable.
    Probe("tom", "set local role claims_admin; select from app.claims", "28000"),
    Probe("tom", "select set_config('app.role', 'admin', true); set local role claims_admin; select from app.claims", "28000"),
    *(Probe("alma", f"select set_config('app.{name}', '{value}', true); select from app.claims", "28000") for name, value in (
        ("organization_id", "{south.organization}"), ("user_id", "{pia}"), ("session_id", "{pia}"), ("role", "claims_processor"),
        ("provider_id", "{ana_provider}"), ("patient_id", "{tom_patient}"), ("request_id", "x"), ("address", "x"), ("source", "job"))),
    # A context that is bent while a statement runs.
    Probe("alma", "set enable_indexscan = off; set enable_bitmapscan = off; "
        "select set_config('app.organization_id', '{south.organization}', true) from app.claims", "1"),
    Probe("alma", "select ctx.entered(null)", "28000"),
    # Entering.
    Probe("api", "{enter_pia}; select from app.claims", "1"),
    Probe("api", "{enter_reading}; update app.claims set notes = 'x'", "25006"),
    Probe("api", "{enter_unsigned}", "28000"),
    Probe("api", "{enter_late}", "28000"),
    Probe("api", "select ctx.enter('{organization}', '{pia}', '{pia}', '', '', 'api', false)", "28000"),
    Probe("api", "{enter_mixed}", "28000"),
    Probe("api", "{enter_without_session}", "28000"),
    Probe("api", "{enter_by_anas_session}", "28000"),
    Probe("api", "{enter_pia}", "28000", "update auth.sessions set ended_at = now() where session_id = '{pia}'"),
    Probe("api", "{enter_pia}", "28000",
        "alter table app.users disable trigger user; update app.users set active = false where user_id = '{pia}'"),
    Probe("api", "{enter_pia}", "28000", "update app.organizations set suspended_at = now()"),
    Probe("worker", "select ctx.enter_job('{south.organization}', '{toms_event}')", "28000"),
    # Before there is a tenant: who knocked, and who did not. They find their names whatever the caller's search_path is.
    *(Probe(who, f"select from {call}", expect) for call in (
        "auth.find_logins('alma@north.test', null)", "auth.find_hash('alma@north.test')",
        "auth.find_invitation('{organization}', '{token}')",
        "auth.login_failed('alma@north.test', null, '', '')", "auth.register('Mine', 'me@mine.test', 'Me', 'x')",
        "auth.accept_invitation('{organization}', '{token}', 'Me', 'x')", "auth.refresh('{organization}', 'y', 60)",
        "auth.record_denial('{organization}', '{alma}', '', '', 'claims', null, 'x', null)",
        "auth.open_session('{organization}', '{alma}', gen_random_uuid(), 'x', 60, null, 'x')")
        for who, expect in (("door", "1"), ("api", "28000"))),
    Probe("api", "select from auth.take('x', 1, 1, 1)", "1"),
    Probe("api", "select from auth.forgive('x', 'y')", "1"),
    Probe("api", "select from ctx.queue_state()", "1"),
    # A job, and the queue: for the tenant of its event, in a context that was entered.
    *(Probe("system", f"select app.{call}; select from app.job_processing_logs where status = '{status}'", "1") for call, status in (
        ("run_job('{toms_event}', null, 0)", "completed"), ("fail_job('{toms_event}', null, 'x', true)", "failed"))),
    Probe("system", "select from app.waiting_jobs(9)", "1"),
    Probe("system", f"select app.end_jobs({ANY_JOBS}); set local role none; select from {QUEUED} where status = 'succeeded'", "1"),
    Probe("system", f"select app.end_jobs({ANY_JOBS}); set local role none; select from {QUEUED} where status = 'todo'", "1"),
    Probe("system", "select ctx.turn_to('{toms_event}'); select from app.claims", "6"),
    Probe("system", "select ctx.turn_to('{south.toms_event}')", "28000"),
    *(Probe("worker", "select set_config('app.organization_id', '{south.organization}', true); set local role claims_system; " + call,
        "28000") for call in (
            "select from app.waiting_jobs(9)", f"select app.end_jobs({ANY_JOBS})", "select ctx.turn_to('{south.toms_event}')")),
    *(Probe("worker", f"select from {call}", "1") for call in (
        "app.rescue_jobs('1 day', '1 day')", "app.forget_jobs(1, 1, 1)", "ctx.enter_job('{organization}', '{toms_event}')")),
    # Tallies: folded one change of each organization, that of bens_claim, which adds no day and no status.
    Probe("worker", "select app.fold_claim_tallies(1); reset session authorization; select from app.claim_tallies", "6"),
    # The trail under seal: no row where it is whole, one for each organization where it is not.
    Probe("worker", "select pg_current_xact_id(); select app.seal_audit_logs()", "P0001"),
    *(Probe(who, "select from app.audit_heads()", "2") for who in ("worker", "auditor")),
    Probe("auditor", "select from app.verify_audit_logs()", "0"),
    Probe("auditor", "select from app.verify_audit_logs()", "1",
        "update app.audit_seals set digest = 'x' where organization_id = '{organization}'"),
    # Who could see a row: alma, pia, ana, tom.
    Probe("auditor", "select from app.who_can_see('claims', '{anas_claim}')", "4"),
    Probe("auditor", "select from app.who_can_see('auth.sessions', '{alma}')", "42809"),
    # The functions of somebody who is in.
    *(Probe(who, f"select from {call}", "1") for who, calls in (
        ("alma", "app.keep_answer('/','k',200,'[]','') app.record_act('read','claims')"),
        ("ana", "app.claim_limits() app.appeal_window_days() auth.log_out(null) auth.my_password_hash() auth.set_my_password('x')"),
        ("pia", "app.take_next_claim()")) for call in calls.split()),
    Probe("alma", "select from app.take_key('/','k','')", "0"),
    Probe("alma", "select from app.retry_job('{toms_job}')", "1", "update app.job_processing_logs set status = 'failed'"),
]  # fmt: skip
