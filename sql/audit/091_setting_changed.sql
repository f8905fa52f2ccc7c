-- A setting of a role or database applies before the first statement: row_security = off, another search_path, a timeout of 0,
-- session_replication_role or a library to load. sql/deploy/roles.sql sets those listed below. The check reports every other setting, and
-- each of the list that is missing or different. Of the server's own settings it reports those that disable a protection. Check 090
-- covers app.*.
-- Left out: a reporting login may be read-only and have time limits other than 0. To keep a setting, add it here and to roles.sql.
with ours as (select * from schema_admin.our_roles()),
concerned as (select * from schema_admin.concerned_roles()),
expected (role, name, value) as (values
    ('claims_api', 'search_path', 'app'), ('claims_api', 'statement_timeout', '5s'), ('claims_api', 'lock_timeout', '2s'),
    ('claims_api', 'idle_in_transaction_session_timeout', '10s'), ('claims_api', 'jit', 'off'),
    ('claims_worker', 'search_path', 'procrastinate, app'), ('claims_worker', 'statement_timeout', '3s'),
    ('claims_worker', 'lock_timeout', '2s'), ('claims_worker', 'idle_in_transaction_session_timeout', '5s'),
    ('claims_worker', 'jit', 'off'), ('claims_auditor', 'search_path', 'app')
),
given as (
    select x.setrole, x.setdatabase, r.rolname as role, d.datname as database, split_part(s.setting, '=', 1) as name,
           substr(s.setting, strpos(s.setting, '=') + 1) as value,
           not r.rolsuper and r.oid not in (select oid from ours) and exists (
               select from ours where ours.rolname = 'claims_reporting' and pg_has_role(r.oid, ours.oid, 'member')) as is_reporting
    from pg_db_role_setting x
    cross join lateral unnest(x.setconfig) as s (setting)
    left join concerned r on r.oid = x.setrole
    left join pg_database d on d.oid = x.setdatabase
    where (x.setrole = 0 or r.oid is not null) and (x.setdatabase = 0 or d.datname = current_database())
),
found (object, problem, remedy) as (
    select coalesce(nullif(concat_ws(' in ', 'role ' || g.role, 'database ' || g.database), ''), 'all roles'),
           format('sets %s to %s%s', g.name, coalesce(nullif(g.value, ''), '(nothing)'), ' in place of ' || e.value),
           case when e.value is not null
                then format('alter role %I set %s = %s', g.role, g.name,
                            case g.name when 'search_path' then e.value else quote_literal(e.value) end)
                when g.setrole = 0 and g.setdatabase <> 0 then format('alter database %I reset %s', g.database, g.name)
                else format('alter role %s%s reset %s', coalesce(quote_ident(g.role), 'all'), ' in database ' || quote_ident(g.database),
                            g.name)
           end
    from given g left join expected e on (e.role, e.name) = (g.role, g.name) and g.setdatabase = 0
    where lower(g.name) !~ '^app\.' and g.value is distinct from e.value
      and not (coalesce(g.is_reporting, false)
               and (g.name = 'default_transaction_read_only' and lower(g.value) in ('on', 'true', 'yes', '1')
                    or g.name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
                                  'transaction_timeout') and g.value !~ '^[0.]+ *[a-z]*$'))
    union all
    select 'role ' || e.role, format('does not set %s to %s', e.name, e.value),
           format('alter role %I set %s = %s', e.role, e.name, case e.name when 'search_path' then e.value else quote_literal(e.value) end)
    from expected e
    where not exists (select from given g where (g.role, g.name) = (e.role, e.name) and g.setdatabase = 0)
)
select '091 setting changed' as check, object, problem, remedy from found
union all
select '091 setting changed', 'server', format('sets %s to %s', name, reset_val),
       format('alter system reset %s; select pg_reload_conf()', name)
from pg_settings
where source not in ('default', 'override', 'session', 'client', 'user', 'database', 'database user')
  and (name, reset_val) in (('session_replication_role', 'replica'), ('session_replication_role', 'local'), ('row_security', 'off'),
                            ('event_triggers', 'off'), ('allow_system_table_mods', 'on'))
order by 2, 3;
