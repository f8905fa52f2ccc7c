-- Without a search_path of its own, a SECURITY DEFINER function resolves names by the caller's. Unless pg_temp is the last schema of the
-- path, it searches the caller's temporary schema first.
select '050 definer search path' as check,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
       coalesce('its search_path does not end in pg_temp: ' || path.setting, 'it has no search_path of its own') as problem,
       format('alter function %I.%I(%s) set search_path = app, pg_catalog, pg_temp',
              n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as remedy
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
left join lateral (
    select s.setting from unnest(p.proconfig) as s (setting) where s.setting like 'search\_path=%') path on true
where n.nspname in ('app', 'auth', 'context', 'schema_admin') and p.prosecdef
  and (path.setting is null or path.setting !~ '(=|, ?)"?pg_temp"?$')
order by 2;
