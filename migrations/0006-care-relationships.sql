-- Care relationships: the patients that a provider treats. The provider may read them and submit claims for them.
set local search_path = app;
create table care_relationships (
    organization_id uuid not null default organization_id() references organizations,
    provider_id uuid not null,
    patient_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (organization_id, provider_id, patient_id),
    foreign key (organization_id, provider_id) references providers,
    foreign key (organization_id, patient_id) references patients
);
create index care_relationships_patient on care_relationships (organization_id, patient_id, provider_id);
alter table care_relationships enable row level security, force row level security;
