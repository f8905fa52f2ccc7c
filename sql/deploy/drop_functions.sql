-- These files are the whole truth about functions: what stands goes first, so that none with the arguments of yesterday can still be
-- called. A function that is part of a table (a default, a check, a trigger) or of a policy stays, and its file replaces it: its body alone,
-- so the owner and the grants that it had are removed here.
do $$
declare
    standing record;
    dropped boolean := true;
begin
    while dropped loop
        dropped := false;
        for standing in
            select p.oid::regprocedure as name from pg_proc p
            where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
              and not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid)
        loop
            execute format('drop function %s', standing.name);
            dropped := true;
        end loop;
    end loop;
    for standing in
        select p.oid::regprocedure as name, array(
            select distinct case g.grantee when 0 then 'public' else g.grantee::regrole::text end
            from aclexplode(p.proacl) g where g.grantee <> p.proowner) as grantees
        from pg_proc p where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
    loop
        if standing.grantees <> '{}' then
            execute format('revoke execute on function %s from %s', standing.name, array_to_string(standing.grantees, ', '));
        end if;
        execute format('alter function %s owner to claims_owner', standing.name);
    end loop;
end
$$;
