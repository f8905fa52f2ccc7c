-- Providers give care and submit claims for it. A provider is identified by its NPI (45 CFR 162.406). It is unique within an organization
-- only: a unique key across organizations would reveal that another one has the value.
set local search_path = app;

-- Verifies the check digit of an NPI: Luhn over 80840 and its ten digits; the prefix adds 24 to the sum.
create function is_npi(npi text) returns boolean
language sql immutable strict parallel safe
return npi ~ '^[0-9]{10}$' and (
    select (24 + sum(case when n % 2 = 1 then d * 2 / 10 + d * 2 % 10 else d end)) % 10 = 0
    from generate_series(1, 10) as n, lateral (select substr(npi, n, 1)::integer as d) as digit);
grant execute on function is_npi to public;

create table providers (
    organization_id uuid not null default organization_id() references organizations,
    provider_id uuid not null default uuid7(),
    npi text not null
        constraint providers_npi_check check (is_npi(npi)),
    name text not null
        constraint providers_name_check check (length(name) between 1 and 200),
    specialty text
        constraint providers_specialty_check check (length(specialty) between 1 and 200),
    email text
        constraint providers_email_check check (length(email) between 3 and 254),
    created_at timestamptz not null default now(),
    primary key (organization_id, provider_id),
    constraint providers_npi_key unique (organization_id, npi)
);
create index providers_newest on providers (organization_id, created_at desc, provider_id desc);
alter table providers enable row level security, force row level security;
