-- A library that the server's configuration loads into each session runs in the server itself, below every policy. Left out:
-- auto_explain, which writes plans to the server's log and changes no result; and shared_preload_libraries, which only a restart by the
-- server's administrator changes and where pg_stat_statements must be. A role's or a database's own setting is for 091. PostgreSQL shows
-- session_preload_libraries to superusers and pg_read_all_settings alone: run as claims_auditor, this looks at the other one.
select '092 library loaded' as check, s.name as object, format('loads %s into each session', l.library) as problem,
       format('alter system reset %s; select pg_reload_conf()', s.name) as remedy
from pg_settings s cross join lateral (
    select trim(one, '" ') from unnest(string_to_array(s.setting, ',')) as one) as l (library)
where s.name in ('session_preload_libraries', 'local_preload_libraries') and l.library not in ('', 'auto_explain')
order by 2, 3;
