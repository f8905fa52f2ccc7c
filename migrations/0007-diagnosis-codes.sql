-- ICD-10-CM codes: the same for all organizations, so the table has no organization_id. The schema step loads them from sql/data.
set local search_path = app;
create table diagnosis_codes (
    code text not null,
    valid_from date not null default '-infinity',
    valid_until date not null default 'infinity',
    billable boolean not null,
    description text not null,
    primary key (code, valid_from),
    constraint diagnosis_codes_validity_check check (valid_from < valid_until)
);
alter table diagnosis_codes enable row level security, force row level security;
comment on column diagnosis_codes.valid_until is 'The first day on which the code is no longer valid.';
comment on column diagnosis_codes.valid_from is
    '-infinity for the shipped release: its codes are valid for earlier dates too, unless an older release is loaded.';
