-- The first response to a POST with an Idempotency-Key, stored for a day, so that repeating the request changes nothing.
set local search_path = app;
create table idempotency_keys (
    organization_id uuid not null default organization_id() references organizations,
    user_id uuid not null,
    path text not null,
    key text not null
        constraint idempotency_keys_key_check check (length(key) between 1 and 255),
    body_hash bytea not null,
    status integer,
    headers json,
    body bytea,
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id, path, key),
    foreign key (organization_id, user_id) references users
);
create index idempotency_keys_oldest on idempotency_keys (organization_id, created_at);
alter table idempotency_keys enable row level security, force row level security;
comment on column idempotency_keys.path is 'The path of the request; the method is always POST.';
comment on column idempotency_keys.body is 'The response, byte for byte. Only the same user gets it again.';
