-- PUBLIC may execute every new function until that is revoked. A SECURITY DEFINER function gives every login the rights of its owner.
-- Each function must be granted to the roles that need it.
select '051 function granted to public' as check,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
       case when p.prosecdef then format('PUBLIC may execute it as %s', p.proowner::regrole) else 'PUBLIC may execute it' end as problem,
       format('revoke execute on function %I.%I(%s) from public',
              n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as remedy
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and g.grantee = 0
order by 2;
