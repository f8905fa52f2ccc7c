-- A SECURITY DEFINER function runs as its owner. A superuser sees every row, and claims_owner may drop every policy. The owner must be
-- claims_auth_definer, claims_context_definer, claims_trigger_definer or claims_audit_sealer, which own no table.
select '052 definer owned too high' as check,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
       format('runs as %s%s', r.rolname,
              case when r.rolsuper then ', a superuser' when r.rolbypassrls then ', which has BYPASSRLS' end) as problem,
       format('alter function %I.%I(%s) owner to claims_auth_definer',
              n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as remedy
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_roles r on r.oid = p.proowner
where n.nspname in ('app', 'auth', 'context', 'schema_admin') and p.prosecdef
  and (r.rolsuper or r.rolbypassrls or r.rolname = 'claims_owner')
order by 2;
