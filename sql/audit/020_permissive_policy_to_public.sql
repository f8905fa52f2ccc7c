-- A permissive policy to PUBLIC opens rows to every present and future role. Restrictive policies are meant for all roles.
select '020 permissive policy to public' as check,
       format('%I.%I: %I', n.nspname, c.relname, p.polname) as object,
       'a permissive policy names no role' as problem,
       format('alter policy %I on %I.%I to <the roles it is meant for>', p.polname, n.nspname, c.relname) as remedy
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('app', 'auth', 'context', 'schema_admin', 'procrastinate') and p.polpermissive and 0 = any (p.polroles)
order by 2;
