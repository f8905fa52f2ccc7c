-- Gives functions that still belong to the administrator who runs this to claims_owner, so that none runs with an administrator's rights.
do $$
declare
    created record;
begin
    for created in
        select p.oid::regprocedure as name from pg_proc p
        where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)
          and p.proowner = session_user::regrole
    loop
        execute format('alter function %s owner to claims_owner', created.name);
    end loop;
end
$$;

-- Each file grants its functions to the roles that need them. None is for PUBLIC.
revoke execute on all functions in schema app, auth, context from public;
-- Functions of the migrations: defaults and checks, which each role that writes rows needs.
grant execute on function app.uuid7, app.organization_id, app.new_claim_number, app.is_npi
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer,
    claims_audit_sealer;
