-- A data set to judge plans by: twenty tenants, the first with half of all claims and the last with fifty; three years of work, in
-- which old claims are settled and new ones open, some patients and providers have many and the last of each has none.
-- The same on every server and at every run, but for the day it counts back from. Run by an administrator where there is the schema
-- and no tenant yet; `set plans.claims = 300000` says how many claims in all. It ends with `vacuum (analyze)`, the caller's to run.
set search_path = app;
set session_replication_role = replica;  -- no trigger runs: their rows are inserted here
set maintenance_work_mem = '256MB';
set work_mem = '64MB';

-- Evenly spread over [0, 1), the same for the same n.
create function pg_temp.chance(n bigint, salt integer) returns double precision language sql immutable
return (hashint8extended(n, salt) & 1048575) / 1048576.0::double precision;
-- A UUIDv7 for the nth row of its kind.
create function pg_temp.id(at timestamptz, kind integer, n bigint) returns uuid language sql immutable
return (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70' || lpad(to_hex(kind), 2, '0') || '8'
        || lpad(to_hex(n), 15, '0'))::uuid;

-- Secondary indexes of the large tables are made at once when the rows are there: a quarter of the time.
create temp table later as
select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition
from pg_index i
where i.indrelid in ('claims'::regclass, 'audit_logs'::regclass) and not i.indisunique;
do $$ declare one record; begin
    for one in select * from later loop execute format('drop index %s', one.name); end loop;
end $$;

create temp table tenants as
with sizes as (
    select n, current_setting('plans.claims')::integer / 2 as half, sum(1.0 / n) filter (where n between 2 and 19) over () as parts
    from generate_series(1, 20) as n
),
claims as (
    select n, case n when 1 then half when 20 then 50 else floor((half - 50) / n / parts) end::integer as claims from sizes
)
select n, pg_temp.id(since, 1, n) as organization_id, since, n * 1000000::bigint as base, claims,
    greatest(claims / 2500, 3) as providers, greatest(claims / 10, 10) as patients, greatest(claims / 3750, 2) as processors
from claims, (select current_date - interval '1095 days') as start (since);

insert into organizations (organization_id, slug, name, auto_approve_limit_cents, created_at)
select organization_id, 'tenant-' || n, 'Tenant ' || n, 20000, since from tenants;

insert into providers (organization_id, provider_id, npi, name, specialty, created_at)
select organization_id, pg_temp.id(since, 2, base + k), npi, 'Provider ' || k, 'Family Medicine', since + k * interval '1 hour'
from tenants, generate_series(1, providers) as k,
    lateral (select 100000000 + n * 1000 + k || digit::text from generate_series(0, 9) as digit) as candidates (npi)
where is_npi(npi);

create temp table people as
select n, organization_id, k, pg_temp.id(at, 3, base + k) as patient_id, at, base + k as seed
from tenants, generate_series(1, patients) as k, lateral (select since + (k * interval '1085 days' / patients)) as day (at);
create unique index on people (n, k);
insert into patients (organization_id, patient_id, member_number, first_name, last_name, date_of_birth, phone, created_at)
select organization_id, patient_id, 'M-' || k, 'First ' || k % 500, 'Last ' || k % 3000, date '1940-01-01' + (seed % 25000)::integer,
    '+1 617 555 0100', at
from people order by at;

insert into users (organization_id, user_id, email, name, role, provider_id, patient_id, created_at)
select organization_id, pg_temp.id(since, 4, base + k), 'admin' || k || '@tenant-' || n || '.test', 'Admin ' || k, 'admin', null::uuid,
    null::uuid, since
from tenants, generate_series(1, 3) as k
union all
select organization_id, pg_temp.id(since, 5, base + k), 'processor' || k || '@tenant-' || n || '.test', 'Processor ' || k,
    'claims_processor', null, null, since + k * interval '1 hour'
from tenants, generate_series(1, processors) as k
union all
select organization_id, pg_temp.id(since, 6, base + k), 'provider' || k || '@tenant-' || n || '.test', 'Provider ' || k, 'provider',
    pg_temp.id(since, 2, base + k), null, since + k * interval '1 hour'
from tenants, generate_series(1, providers) as k
union all
select organization_id, pg_temp.id(at, 7, seed), 'patient' || k || '@tenant-' || n || '.test', 'Patient ' || k, 'patient', null,
    patient_id, at
from people where k % 5 = 0 or k = 1;

insert into auth.credentials (email, organization_id, password_hash)
select email, organization_id, '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g'
from users join tenants using (organization_id);
-- The first session of each user is open and has the user's own id.
insert into auth.sessions (organization_id, session_id, user_id, created_at, ended_at)
select organization_id, case k when 0 then user_id else pg_temp.id(now() - k * interval '3 days', 8, row_number() over ()) end, user_id,
    now() - k * interval '3 days', case when k > 1 then now() - k * interval '2 days' end
from users join tenants using (organization_id), generate_series(0, 4) as k;
insert into auth.refresh_tokens (token_hash, organization_id, session_id, created_at, expires_at, replaced_at)
select sha256(convert_to(session_id || ' ' || k, 'UTF8')), organization_id, session_id, created_at, created_at + interval '14 days',
    case k when 1 then created_at + interval '10 minutes' end
from auth.sessions, generate_series(1, 2) as k;

-- Two events a patient, admission and discharge; every tenth has both cancelled.
create temp table happened as
select p.*, pg_temp.id(at + step * interval '2 days', 9, seed * 4 + step) as event_id, step, at + step * interval '2 days' as came,
    (array['admission', 'discharge', 'admission_cancelled', 'discharge_cancelled'])[step] as event_type
from people p, generate_series(1, case when k % 10 = 0 then 4 else 2 end) as step;
insert into patient_status_events (organization_id, event_id, patient_id, event_type, occurred_at, visit_number, idempotency_key, created_at)
select organization_id, event_id, patient_id, event_type, came, 'V-' || k, 'event-' || k || '-' || step, came from happened order by came;
insert into job_processing_logs (
    organization_id, job_id, job_type, event_id, patient_id, status, attempts, error, result, created_at,
    started_at, finished_at)
select organization_id, pg_temp.id(came, 10, seed * 4 + step),
    case event_type when 'admission' then 'patient_admission' when 'discharge' then 'patient_discharge' else event_type end,
    event_id, patient_id, status, 1, case status when 'failed' then 'TimeoutError' end,
    case status when 'completed' then '{"updated": [], "skipped": [], "failed": []}'::json end, came, came, came
from happened, lateral (select coalesce((array['failed', 'pending', 'processing'])[k % 200 - step * 3], 'completed')) as job (status)
order by came;

-- Claims: the nth of a tenant's lies where its share of the years has passed, with a patient who was there by then.
create temp table codes as
select row_number() over (order by md5(code)) - 1 as c, code from diagnosis_codes where billable order by md5(code) limit 1000;
create unique index on codes (c);
create temp table chosen as
select n, organization_id, base + i as seed, at, patient,
    pg_temp.id(since, 2, base + 1 + floor((providers - 1) * pg_temp.chance((base + patient) * 3 + i % 3, 2) ^ 2)::integer) as provider_id,
    pg_temp.id(since, 5, base + 1 + floor((processors - 1) * pg_temp.chance(base + i, 3))::integer) as worker,
    floor(1000 * pg_temp.chance(base + i, 4) ^ 3)::integer as c,
    (500 * exp(7 * pg_temp.chance(base + i, 5) ^ 2))::bigint + (base + i) % 100 as cents,
    case
        when kind < 0.01 then 'draft'
        when age < 10 then case when kind < 0.75 then 'submitted' when kind < 0.95 then 'under_review' else 'pending_info' end
        when age < 40 then case when kind < 0.10 then 'submitted' when kind < 0.50 then 'under_review' when kind < 0.60 then 'pending_info'
                                when kind < 0.85 then 'approved' when kind < 0.97 then 'rejected' else 'appealed' end
        else case when kind < 0.83 then 'paid' when kind < 0.95 then 'rejected' when kind < 0.98 then 'voided'
                  when kind < 0.985 then 'reversed' when kind < 0.99 then 'under_review' when kind < 0.995 then 'appealed' else 'approved' end
    end as status
from tenants, generate_series(1, claims) as i,
    lateral (select since + interval '1095 days' * i / claims, 1095 - 1095.0 * i / claims, pg_temp.chance(base + i, 6),
        1 + floor(pg_temp.chance(base + i, 1) * (patients - 1) * i / claims)::integer) as drawn (at, age, kind, patient);
create temp table worked as
select c.*, p.patient_id,
    case when status <> 'draft' and (moved or pg_temp.chance(c.seed, 8) < 0.3) then worker end as assigned_to,
    case when by_job then pg_temp.id(p.at + step * interval '2 days', 9, p.seed * 4 + step) end as event_id,
    case when moved and not by_job then worker end as status_by, by_job, decision, moved_at,
    case when status in ('draft', 'submitted') then 1 when status in ('under_review', 'voided') then 2 when status = 'reversed' then 4 else 3
    end as version
from chosen c join people p on p.n = c.n and p.k = c.patient,
    lateral (select status not in ('draft', 'submitted'), case when status = 'under_review' then 1 else 2 end,
        case when status in ('draft', 'submitted') then c.at else least(c.at + interval '3 days', now()) end,
        case when status in ('approved', 'paid', 'reversed') then 'approved' when status in ('rejected', 'appealed') then 'rejected' end
    ) as last_move (moved, step, moved_at, decision),
    lateral (select status in ('under_review', 'approved') and pg_temp.chance(c.seed, 7) < 0.3) as automatic (by_job);
insert into claims (
    organization_id, claim_id, claim_number, patient_id, provider_id, diagnosis_code, amount_cents, approved_cents, service_date, status,
    assigned_to, status_event_id, status_by, decided_by, submitted_at, processed_at, paid_at, created_at, updated_at, version, decision,
    first_decided_at, denial_reason)
select organization_id, pg_temp.id(at, 11, seed), 'CLM-' || upper(left(md5(seed::text), 16)), patient_id, provider_id, code, cents,
    case decision when 'approved' then cents end, (at - interval '5 days' * pg_temp.chance(seed, 9))::date, status,
    assigned_to, event_id, status_by, case when decision is not null then status_by end, case when status <> 'draft' then at end,
    case when decision is not null then moved_at end, case when status in ('paid', 'reversed') then moved_at end, at, moved_at, version,
    decision, case when decision is not null then moved_at end, case decision when 'rejected' then 'Not covered' end
from worked join codes using (c)
order by at;

insert into care_relationships (organization_id, provider_id, patient_id, created_at)
select organization_id, provider_id, patient_id, min(at) from worked group by 1, 2, 3;

create temp table steps (status text, version integer, from_status text, to_status text);
insert into steps values
    ('draft', 1, null, 'draft'),
    ('submitted', 1, null, 'submitted'),
    ('under_review', 1, null, 'submitted'), ('under_review', 2, 'submitted', 'under_review'),
    ('pending_info', 1, null, 'submitted'), ('pending_info', 2, 'submitted', 'under_review'), ('pending_info', 3, 'under_review', 'pending_info'),
    ('approved', 1, null, 'submitted'), ('approved', 2, 'submitted', 'under_review'), ('approved', 3, 'under_review', 'approved'),
    ('rejected', 1, null, 'submitted'), ('rejected', 2, 'submitted', 'under_review'), ('rejected', 3, 'under_review', 'rejected'),
    ('appealed', 1, null, 'submitted'), ('appealed', 2, 'submitted', 'rejected'), ('appealed', 3, 'rejected', 'appealed'),
    ('voided', 1, null, 'submitted'), ('voided', 2, 'submitted', 'voided'),
    ('paid', 1, null, 'submitted'), ('paid', 2, 'submitted', 'approved'), ('paid', 3, 'approved', 'paid'),
    ('reversed', 1, null, 'submitted'), ('reversed', 2, 'submitted', 'approved'), ('reversed', 3, 'approved', 'paid'),
    ('reversed', 4, 'paid', 'reversed');
insert into claim_status_history (organization_id, claim_id, version, from_status, to_status, at, by_user_id, by_role, reason, source, event_id)
select organization_id, pg_temp.id(at, 11, seed), s.version, from_status, to_status, case s.version when 1 then at else moved_at end,
    case when s.version > 1 and not by_job then worker end,
    case when s.version = 1 then 'provider' when by_job then 'system' else 'claims_processor' end,
    null, case when s.version > 1 and by_job then 'job' else 'api' end, case when s.version > 1 then event_id end
from worked join steps s using (status)
order by at;

insert into audit_logs (
    organization_id, audit_id, at, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, address)
select organization_id, pg_temp.id(at, 12, row_number() over ()), at, actor, actor_role, action, entity, entity_id, patient_id, before,
    after, 'request', '192.0.2.1'
from (
    select organization_id, at, provider_id as actor, 'provider' as actor_role, 'create' as action, 'claims' as entity,
        pg_temp.id(at, 11, seed) as entity_id, patient_id, null::jsonb as before, jsonb_build_object('status', 'submitted') as after
    from worked
    union all
    select organization_id, moved_at, status_by, case when by_job then 'system' else 'claims_processor' end, 'update', 'claims',
        pg_temp.id(at, 11, seed), patient_id, '{"status": "submitted"}', jsonb_build_object('status', status)
    from worked where version > 1
    union all
    select organization_id, at, null, 'admin', 'create', 'patients', patient_id, patient_id, null, jsonb_build_object('member_number', k)
    from people
    union all
    select organization_id, came, null, 'provider', 'create', 'patient_status_events', event_id, patient_id, null, '{}' from happened
    union all
    select s.organization_id, s.created_at, s.user_id, u.role, 'login', 'users', s.user_id, null, null, null
    from auth.sessions s join users u using (organization_id, user_id)
    union all
    select organization_id, at, pg_temp.id(at, 4, base + 1), 'admin', 'read', 'audit_logs', null, null, null, null
    from tenants, generate_series(1, claims / 150) as k, lateral (select since + k * interval '1095 days' / (claims / 150 + 1)) as read (at)
) as entries
order by at;

insert into invitations (organization_id, invitation_id, email, role, token_hash, created_at, expires_at, accepted_at)
select organization_id, pg_temp.id(at, 13, base + k), 'invited' || k || '@tenant-' || n || '.test', 'admin',
    sha256(convert_to(n || ' ' || k, 'UTF8')), at, at + interval '7 days', case when k % 10 > 0 then at + interval '1 day' end
from tenants, generate_series(1, claims / 300 + 10) as k,
    lateral (select since + k * interval '1095 days' / (claims / 300 + 10)) as invited (at);
insert into idempotency_keys (organization_id, user_id, path, key, body_hash, status, headers, body, created_at)
select organization_id, pg_temp.id(since, 6, base + 1 + k % providers), '/api/claims', 'key ' || k, sha256(''), 201, '{}',
    convert_to(repeat('x', 600), 'UTF8'), now() - k * interval '25 hours' / (claims / 30 + 1)
from tenants, generate_series(1, claims / 30) as k;

insert into auth.rate_limits (subject, started_at, used, granted)
select sha256(convert_to('counted ' || k, 'UTF8')), now() - k * interval '1 second', 1, 1
from generate_series(1, current_setting('plans.claims')::integer / 10) as k;

do $$ declare one record; begin
    for one in select * from later loop execute one.definition; end loop;
end $$;
reset session_replication_role;
select rebuild_claim_totals();
