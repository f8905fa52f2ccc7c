-- A tenant table whose changes are not in the audit log.
-- Left out: tables that are records themselves (audit_logs, audit_seals, claim_status_history, job_processing_logs), sums of claims
-- (claim_totals, claim_total_changes), and idempotency_keys, which has copies of responses.
select '121 tenant table unaudited' as check,
       format('%I.%I', n.nspname, c.relname) as object,
       'has no trigger that writes every change into audit_logs' as problem,
       format('create trigger %I after insert or update or delete on %I.%I for each row execute function app.audit_row(%L)',
              c.relname || '_90_audit', n.nspname, c.relname,
              (select a.attname from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[1]
               where i.indrelid = c.oid and i.indisprimary)) as remedy
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'app' and c.relkind in ('r', 'p')
  and c.relname <> all ('{audit_logs,audit_seals,claim_status_history,claim_totals,claim_total_changes,job_processing_logs,'
                        'idempotency_keys}')
  and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped)
  and not exists (
    select from pg_trigger t
    where t.tgrelid = c.oid and t.tgfoid = 'app.audit_row'::regproc
      and t.tgtype & 29 = 29)  -- for each row, on insert, delete and update
order by 2;
