-- Size limits for values from product roles or the API that no constraint limited. The API's own limits are lower, but injected SQL
-- bypasses them.
set local search_path = app;
-- `not valid`, because audit_logs is large, and checking existing rows would lock it for a scan. No role may change those rows anyway.
alter table audit_logs
    add constraint audit_logs_actor_role_check check (length(actor_role) <= 63) not valid,
    add constraint audit_logs_entity_check check (length(entity) <= 63) not valid,
    add constraint audit_logs_outcome_check check (length(outcome) <= 200) not valid,
    add constraint audit_logs_request_id_check check (length(request_id) <= 128) not valid,
    add constraint audit_logs_address_check check (length(address) <= 64) not valid;
alter table idempotency_keys
    add constraint idempotency_keys_path_check check (length(path) <= 500),
    add constraint idempotency_keys_body_hash_check check (octet_length(body_hash) <= 64),
    add constraint idempotency_keys_headers_check check (octet_length(headers::text) <= 8192),
    add constraint idempotency_keys_body_check check (octet_length(body) <= 16777216);
alter table invitations
    add constraint invitations_token_hash_check check (octet_length(token_hash) <= 64);
alter table auth.credentials
    add constraint credentials_email_check check (length(email) <= 254),
    add constraint credentials_password_hash_check check (length(password_hash) <= 500);
alter table auth.refresh_tokens
    add constraint refresh_tokens_token_hash_check check (octet_length(token_hash) <= 64);
