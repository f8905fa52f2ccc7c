-- Renames objects that a database of version 0033 or older has under earlier names. An administrator runs it before roles.sql. Each rename
-- is conditional on the old name, so it changes nothing on a new database or when it runs again.
-- Function bodies that are stored as text keep the old names until their files run. Until then a statement that fires a trigger fails.
set client_min_messages = warning;

-- Roles belong to the whole server, so an upgrade of another database may have renamed them already. If a schema step of the old version
-- has created an old role again since, its objects in this database are reassigned to the new role. The old role remains while another
-- database uses it.
do $$
declare
    role record;
begin
    for role in
        select r.* from (values
            ('claims_gate', 'claims_auth_definer'), ('claims_usher', 'claims_context_definer'),
            ('claims_recorder', 'claims_trigger_definer'), ('claims_sealer', 'claims_audit_sealer'),
            ('claims_as_admin', 'claims_check_admin'),
            ('claims_as_processor', 'claims_check_processor'), ('claims_as_provider', 'claims_check_provider'),
            ('claims_as_patient', 'claims_check_patient')) as r (old, new)
        where exists (select from pg_roles where rolname = r.old)
    loop
        if not exists (select from pg_roles where rolname = role.new) then
            execute format('alter role %I rename to %I', role.old, role.new);
        else
            execute format('reassign owned by %I to %I', role.old, role.new);
            execute format('drop owned by %I', role.old);
            begin
                execute format('drop role %I', role.old);
            exception when dependent_objects_still_exist then
                null;
            end;
        end if;
    end loop;
end
$$;

-- The schema, tables, columns and types.
do $$
declare
    renamed record;
begin
    if to_regnamespace('ctx') is not null then
        alter schema ctx rename to context;
    end if;
    for renamed in select * from (values
        ('auth', 'windows', 'rate_limits'), ('auth', 'tenants', 'organization_lookup'), ('auth', 'touched', 'unsealed_entries'),
        ('auth', 'kept_answers', 'idempotency_usage'), ('auth', 'denials', 'denial_counters'),
        ('app', 'claim_tallies', 'claim_totals'), ('app', 'claim_tally_changes', 'claim_total_changes'),
        ('context', 'reporters', 'reporting_logins')) as t (schema, old, new)
    loop
        execute format('alter table if exists %I.%I rename to %I', renamed.schema, renamed.old, renamed.new);
    end loop;
    for renamed in
        select a.attrelid::regclass as name from pg_attribute a
        where a.attrelid in (to_regclass('app.audit_logs'), to_regclass('app.audit_seals')) and a.attname = 'era'
    loop
        execute format('alter table %s rename column era to cluster_epoch', renamed.name);
    end loop;
    if to_regtype('app.claim_on_wire') is not null then
        alter type app.claim_on_wire rename to claim_response;
    end if;
end
$$;

-- Functions: those that a default, a check, a trigger or a policy uses can't be dropped and created again (schema_admin.drop_functions).
do $$
declare
    renamed record;
begin
    for renamed in
        select p.oid::regprocedure as name, f.new
        from (values
            ('context', 'enter', 'begin_request'), ('context', 'enter_job', 'begin_job'), ('context', 'turn_to', 'switch_event'),
            ('context', 'assume', 'establish'), ('context', 'assign', 'set_variables'), ('context', 'checked', 'read_id'),
            ('context', 'entered', 'required_id'), ('context', 'verified', 'verified_id'), ('context', 'unsigned', 'unsigned_id'),
            ('context', 'not_verified', 'raise_unverified'), ('context', 'same', 'matches'), ('context', 'fits', 'is_valid'),
            ('context', 'stated', 'signature_input'), ('context', 'mac', 'hmac_sha256'), ('context', 'role_name', 'database_role'),
            ('context', 'proves', 'is_valid_proof'), ('context', 'refuse_proof', 'raise_invalid_proof'),
            ('context', 'verify', 'verify_proof'),
            ('auth', 'take', 'consume_rate_limit'), ('auth', 'forgive', 'refund_rate_limit'),
            ('auth', 'sweep_windows', 'delete_expired_rate_limits'), ('auth', 'window_of', 'rate_limit_key'),
            ('auth', 'began', 'window_start'), ('auth', 'find_hash', 'find_password_hash'),
            ('auth', 'login_failed', 'record_failed_login'), ('app', 'bound_answers', 'limit_stored_responses'),
            ('app', 'refuse', 'raise_invalid'), ('app', 'refuse_now', 'raise_conflict'), ('app', 'refusal', 'error_json'),
            ('app', 'legal_move', 'find_transition'), ('app', 'refuse_move', 'raise_illegal_transition'),
            ('app', 'check_move', 'check_transition'), ('app', 'move_claim', 'apply_transition'),
            ('app', 'make_claim', 'validate_new_claim'), ('app', 'touch_claim', 'bump_claim_version'),
            ('app', 'record_status', 'record_status_change'), ('app', 'link_care', 'add_care_relationship'),
            ('app', 'claim_problems', 'claim_errors'), ('app', 'review_submitted', 'process_admission'),
            ('app', 'settle_visit', 'process_discharge'), ('app', 'undo_last', 'revert_event'), ('app', 'left_alone', 'skipped_claims'),
            ('app', 'is_undone', 'is_cancelled'), ('app', 'move_claims', 'move_claims_for_event'),
            ('app', 'bulk_move', 'update_status_bulk'),
            ('app', 'finish_event', 'process_event_once'), ('app', 'run_job', 'process_batch'), ('app', 'fail_job', 'record_job_failure'),
            ('app', 'waiting_jobs', 'ready_jobs'), ('app', 'end_jobs', 'mark_jobs_succeeded'), ('app', 'forget_jobs', 'delete_old_jobs'),
            ('app', 'record_act', 'write_audit_entry'), ('app', 'tally_of', 'claim_contribution'),
            ('app', 'tally_claim', 'queue_total_change'), ('app', 'fold_organization', 'apply_total_changes'),
            ('app', 'fold_claim_tallies', 'apply_all_total_changes'), ('app', 'counted_tallies', 'expected_totals'),
            ('app', 'recount_claim_tallies', 'rebuild_claim_totals'), ('app', 'tallied_claims', 'claim_totals_by_status'),
            ('app', 'finds', 'row_visible'), ('app', 'sees_as_admin', 'row_visible_as_admin'),
            ('app', 'sees_as_processor', 'row_visible_as_processor'), ('app', 'sees_as_provider', 'row_visible_as_provider'),
            ('app', 'sees_as_patient', 'row_visible_as_patient'), ('app', 'all_words', 'prefix_tsquery'), ('app', 'utc', 'to_rfc3339'),
            ('app', 'major_units', 'from_cents'), ('app', 'audit_era', 'cluster_epoch'), ('app', 'take_key', 'reserve_idempotency_key'),
            ('app', 'keep_answer', 'store_response'), ('app', 'answers_quota', 'idempotency_quota'),
            ('app', 'kept_answers', 'idempotency_usage'), ('app', 'take_next_claim', 'assign_next_claim'),
            ('app', 'close_denials', 'flush_denials'), ('app', 'add_tenant', 'add_organization_lookup')) as f (schema, old, new)
        join pg_proc p on p.pronamespace = to_regnamespace(f.schema) and p.proname = f.old
        where not exists (
            select from pg_proc other
            where other.pronamespace = p.pronamespace and other.proname = f.new and other.proargtypes = p.proargtypes)
    loop
        execute format('alter function %s rename to %I', renamed.name, renamed.new);
    end loop;
end
$$;

-- Constraints, indexes, sequences, policies and triggers whose names contain the name of a table, column, role or function. The index of a
-- constraint is renamed with the constraint.
do $$
declare
    renamed record;
    word record;
    new_name text;
begin
    for renamed in
        with relation as (
            select c.oid, c.relname, c.relkind, c.oid::regclass as name from pg_class c
            where c.relnamespace in (to_regnamespace('app'), to_regnamespace('auth'), to_regnamespace('context')))
        select k.conname as old, format('alter table %s rename constraint %I to', r.name, k.conname) as command
        from pg_constraint k join relation r on r.oid = k.conrelid
        union all
        select r.relname, format('alter index %s rename to', r.name) from relation r
        where r.relkind = 'i' and not exists (
            select from pg_constraint k where k.conindid = r.oid and k.contype in ('p', 'u', 'x'))
        union all
        select r.relname, format('alter sequence %s rename to', r.name) from relation r where r.relkind = 'S'
        union all
        select p.polname, format('alter policy %I on %s rename to', p.polname, r.name)
        from pg_policy p join relation r on r.oid = p.polrelid
        union all
        select t.tgname, format('alter trigger %I on %s rename to', t.tgname, r.name)
        from pg_trigger t join relation r on r.oid = t.tgrelid where not t.tgisinternal
    loop
        new_name := renamed.old;
        for word in select * from (values
            ('^windows_', 'rate_limits_'), ('^tenants_', 'organization_lookup_'), ('^touched_', 'unsealed_entries_'),
            ('^kept_answers_', 'idempotency_usage_'), ('^denials_', 'denial_counters_'), ('^claim_tallies_', 'claim_totals_'),
            ('^claim_tally_changes_', 'claim_total_changes_'), ('^reporters_', 'reporting_logins_'), ('_era_', '_cluster_epoch_'),
            ('^claims_10_make$', 'claims_10_validate'), ('^claims_10_move$', 'claims_10_transition'),
            ('^claims_20_touch$', 'claims_20_version'), ('^claims_30_record$', 'claims_30_status_history'),
            ('_link_care$', '_care_relationship'), ('^claims_40_tally_again$', 'claims_40_totals_update'),
            ('^claims_40_tally$', 'claims_40_totals'), ('^organizations_20_add_tenant$', 'organizations_20_lookup'),
            ('_entered$', '_requires_context'), ('_signed$', '_context'),
            ('_gate(?=_|$)', '_auth_definer'), ('_usher(?=_|$)', '_context_definer'), ('_recorder(?=_|$)', '_trigger_definer'),
            ('(?<!_audit)_sealer(?=_|$)', '_audit_sealer')) as w (old, new)
        loop
            new_name := regexp_replace(new_name, word.old, word.new);
        end loop;
        if new_name <> renamed.old then
            execute format('%s %I', renamed.command, new_name);
        end if;
    end loop;
end
$$;

-- The log of migrations. yoyo identifies a migration by the SHA-256 of its name.
do $$
declare
    renamed record;
begin
    if to_regclass('schema_admin._yoyo_migration') is null then
        return;
    end if;
    for renamed in select * from (values
        ('0021-tenants', '0021-organization-lookup'), ('0025-claim-tallies', '0025-claim-totals'),
        ('0028-reporters', '0028-reporting-logins'), ('0031-touched', '0031-unsealed-entries'),
        ('0032-kept-answers', '0032-idempotency-usage'), ('0033-denials', '0033-denial-counters')) as m (old, new)
    loop
        update schema_admin._yoyo_migration
        set migration_id = renamed.new, migration_hash = encode(sha256(convert_to(renamed.new, 'UTF8')), 'hex')
        where migration_id = renamed.old;
    end loop;
end
$$;

-- Waiting maintenance jobs.
do $$
begin
    if to_regclass('procrastinate.procrastinate_jobs') is not null then
        update procrastinate.procrastinate_jobs set queue_name = 'maintenance' where queue_name = 'upkeep' and status = 'todo';
        update procrastinate.procrastinate_jobs
        set task_name = 'delete_old_jobs', lock = 'delete_old_jobs', queueing_lock = 'delete_old_jobs'
        where task_name = 'forget_jobs' and status = 'todo';
    end if;
end
$$;

-- Comments that contain an old name.
do $$
declare
    comment record;
begin
    for comment in
        select format('comment on %s %s is', case d.objsubid when 0 then 'table' else 'column' end,
                      concat_ws('.', d.objoid::regclass, quote_ident(a.attname))) as command,
               replace(d.description, w.old, w.new) as text
        from (values
            ('ctx.keys', 'context.keys'), ('app.keep_answer', 'app.store_response'), ('move_claim()', 'apply_transition()'),
            ('entries of its era', 'entries of its cluster_epoch')) as w (old, new)
        join pg_description d on d.classoid = 'pg_class'::regclass and strpos(d.description, w.old) > 0
        join pg_class c on c.oid = d.objoid
            and c.relnamespace in (to_regnamespace('app'), to_regnamespace('auth'), to_regnamespace('context'))
        left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
    loop
        execute format('%s %L', comment.command, comment.text);
    end loop;
end
$$;
-- Replaced by close_table.
drop function if exists schema_admin.drop_policies(regclass);
reset client_min_messages;
