-- A SECURITY DEFINER function lends its owner's rights; executable by PUBLIC it lends them to everybody.
select '051 definer for everybody' as check,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as object,
       format('PUBLIC may execute it as %s', p.proowner::regrole) as problem,
       format('revoke execute on function %I.%I(%s) from public',
              n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as remedy
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
where n.nspname in ('app', 'auth', 'ctx', 'schema_admin') and p.prosecdef and g.grantee = 0
order by 2;
