-- What the administrator made here belongs to claims_owner, so that no function or trigger runs with an administrator's rights.
do $$
declare
    made record;
begin
    for made in
        select p.oid::regprocedure as name from pg_proc p
        where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'ctx'::regnamespace)
          and p.proowner = session_user::regrole
    loop
        execute format('alter function %s owner to claims_owner', made.name);
    end loop;
    -- A function that runs as somebody else is for those it was granted to, never for everybody.
    for made in
        select p.oid::regprocedure as name from pg_proc p
        where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'ctx'::regnamespace) and p.prosecdef
    loop
        execute format('revoke execute on function %s from public', made.name);
    end loop;
end
$$;
