-- Grants on functions that migrations create: defaults and checks, which each role that writes rows needs.
grant execute on function app.uuid7, app.organization_id, app.new_claim_number, app.is_npi
    to claims_admin, claims_processor, claims_provider, claims_patient, claims_system, claims_auth_definer, claims_trigger_definer,
    claims_audit_sealer;
