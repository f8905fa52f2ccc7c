-- A library that the server's configuration loads into each session runs inside the server, where no policy applies.
-- Left out: auto_explain, which logs plans and changes no result; shared_preload_libraries, which needs a restart by the server's
-- administrator and contains pg_stat_statements. Check 091 covers settings of roles and databases. PostgreSQL shows
-- session_preload_libraries only to superusers and pg_read_all_settings; as claims_auditor this checks local_preload_libraries only.
select '092 library loaded' as check, s.name as object, format('loads %s into each session', l.library) as problem,
       format('alter system reset %s; select pg_reload_conf()', s.name) as remedy
from pg_settings s cross join lateral (
    select trim(one, '" ') from unnest(string_to_array(s.setting, ',')) as one) as l (library)
where s.name in ('session_preload_libraries', 'local_preload_libraries') and l.library not in ('', 'auto_explain')
order by 2, 3;
