-- What the administrator made here belongs to claims_owner, so that no function or trigger runs with an administrator's rights.
do $$
declare
    made record;
begin
    for made in
        select p.oid::regprocedure as name from pg_proc p
        where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
          and p.proowner = session_user::regrole
    loop
        execute format('alter function %s owner to claims_owner', made.name);
    end loop;
end
$$;

-- A function is for those it was granted to, in the file that makes it; never for everybody.
revoke execute on all functions in schema app, auth, context from public;
-- What the migrations made: whoever writes a row needs its defaults and checks.
grant execute on function app.uuid7, app.organization_id, app.new_claim_number, app.is_npi
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer, claims_audit_sealer;
