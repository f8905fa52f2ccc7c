-- These files are the whole truth about functions: what stands goes first, so that none with the arguments of yesterday can still be
-- called. A function that is part of a table (a default, a check, a trigger) or of a policy stays, and its file replaces it.
do $$
declare
    standing record;
    dropped boolean := true;
begin
    while dropped loop
        dropped := false;
        for standing in
            select p.oid::regprocedure as name from pg_proc p
            where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'ctx'::regnamespace)
              and not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid)
        loop
            execute format('drop function %s', standing.name);
            dropped := true;
        end loop;
    end loop;
end
$$;
