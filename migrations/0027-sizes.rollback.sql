set local search_path = app;
alter table auth.refresh_tokens drop constraint refresh_tokens_token_hash_check;
alter table auth.credentials drop constraint credentials_password_hash_check, drop constraint credentials_email_check;
alter table invitations drop constraint invitations_token_hash_check;
alter table idempotency_keys
    drop constraint idempotency_keys_body_check, drop constraint idempotency_keys_headers_check,
    drop constraint idempotency_keys_body_hash_check, drop constraint idempotency_keys_path_check;
alter table audit_logs
    drop constraint audit_logs_address_check, drop constraint audit_logs_request_id_check, drop constraint audit_logs_outcome_check,
    drop constraint audit_logs_entity_check, drop constraint audit_logs_actor_role_check;
