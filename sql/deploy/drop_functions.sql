-- Drops all functions of our schemas; the files that follow create them again. So no function remains that the files do not define, for
-- example with earlier arguments. A function that a default, a check, a trigger or a policy uses can't be dropped. Its file replaces its
-- body only, so its owner and its grants are reset here. Its parameters can't be renamed.
do $$
declare
    existing record;
    dropped boolean := true;
begin
    while dropped loop
        dropped := false;
        for existing in
            select p.oid::regprocedure as name from pg_proc p
            where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
              and not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid)
        loop
            execute format('drop function %s', existing.name);
            dropped := true;
        end loop;
    end loop;
    for existing in
        select p.oid::regprocedure as name, array(
            select distinct case g.grantee when 0 then 'public' else g.grantee::regrole::text end
            from aclexplode(p.proacl) g where g.grantee <> p.proowner) as grantees
        from pg_proc p where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
    loop
        if existing.grantees <> '{}' then
            execute format('revoke execute on function %s from %s', existing.name, array_to_string(existing.grantees, ', '));
        end if;
        execute format('alter function %s owner to claims_owner', existing.name);
    end loop;
end
$$;
