-- The data set of `make bench`: a hundred organizations over two years, the first with a fifth of all claims, in which old claims are
-- settled and new ones open. Every row follows from its number, so benchmarks know all ids without queries. Each run gives the same
-- rows, but for the time from which it counts back. Run by tests/load/dataset.py, phase by phase, as an administrator of a database with
-- the schema and without a tenant. `set bench.claims = 1000000` sets the number of claims.
-- The kth claim of the first tenant is number 5k. `few` of them each belong to: provider 1 and processor 1, all of them recent; provider
-- 2 and processor 2, spread over the two years. Just before the recent ones every second of 2 * `open` is under review, to be moved.

-- phase: base
create schema bench;
grant usage on schema bench to claims_api, claims_admin, claims_processor, claims_provider, claims_patient;

-- Evenly spread over [0, 1), the same for the same n.
create function bench.chance(n bigint, salt integer) returns double precision language sql immutable parallel safe
return (hashint8extended(n, salt) & 1048575) / 1048576.0::double precision;
-- A UUIDv7 for the nth row of its kind: 1 organizations, 2 providers, 3 patients, 4 admins, 5 processors, 6 providers' users,
-- 7 patients' users, 8 claims, 9 entries of the audit log.
create function bench.id(at_ms bigint, kind integer, n bigint) returns uuid language sql immutable parallel safe
return (lpad(to_hex(at_ms), 12, '0') || '7' || lpad(to_hex(kind), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid;
-- The provider of a patient: one of two, many patients to a few of them; never 1 and 2, which have their own.
create function bench.treating(patient bigint, nth integer, providers integer) returns integer language sql immutable parallel safe
return 3 + floor((providers - 2) * bench.chance(patient * 2 + nth, 2) ^ 2)::integer;

create table bench.plan as
select claims, claims / 5 as largest, least(200, claims / 50) as few, least(1000, claims / 50) as open, since, (extract(epoch from since) * 1000)::bigint as since_ms
from (values (current_setting('bench.claims')::bigint, date_trunc('second', now()) - interval '730 days')) as given (claims, since);
-- The id of the claim with that number, of whichever tenant; those of the first tenant are divisible by five.
do $$ declare p bench.plan; begin
    select * into p from bench.plan;
    execute format('create function bench.claim_id(n bigint) returns uuid language sql immutable parallel safe '
                   'return bench.id(%s + n * 63072000000 / %s, 8, n)', p.since_ms, p.claims);
    execute format('create function bench.patient_id(n bigint) returns uuid language sql immutable parallel safe '
                   'return bench.id(%s, 3, 1000000 + n)', p.since_ms);
    execute format('create function bench.provider_id(n bigint) returns uuid language sql immutable parallel safe '
                   'return bench.id(%s, 2, 1000000 + n)', p.since_ms);
end $$;

create table bench.tenants as
with shares as (
    select n, case n when 1 then 0.2 else 0.8 / n / sum(1.0 / n) filter (where n > 1) over () end::double precision as share
    from generate_series(1, 100) as n
)
select n, bench.id(since_ms, 1, n) as organization_id, n * 1000000::bigint as base, since, since_ms,
    greatest(share * claims / 1000, 12)::integer as providers, greatest(share * claims / 10, 50)::integer as patients,
    greatest(share * claims / 5000, 4)::integer as processors,
    sum(share) filter (where n > 1) over (order by n) / 0.8 as up_to
from shares, bench.plan;
create table bench.codes as
select row_number() over (order by md5(code)) - 1 as c, code from app.diagnosis_codes where billable order by md5(code) limit 1000;
create table bench.steps (status text, version integer, from_status text, to_status text);
insert into bench.steps values
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
analyze bench.tenants, bench.codes, bench.steps;

insert into organizations (organization_id, slug, name, created_at) select organization_id, 'bench-' || n, 'Bench ' || n, since from bench.tenants;
insert into auth.organization_lookup (organization_id, slug) select organization_id, 'bench-' || n from bench.tenants;
insert into providers (organization_id, provider_id, npi, name, specialty, created_at)
select organization_id, bench.id(since_ms, 2, base + k), npi, 'Provider ' || k, 'Family Medicine', since + k * interval '1 hour'
from bench.tenants, generate_series(1, providers) as k,
    lateral (select 100000000 + n * 8000 + k || digit::text from generate_series(0, 9) as digit) as candidates (npi)
where is_npi(npi);
insert into patients (organization_id, patient_id, member_number, first_name, last_name, date_of_birth, phone, created_at)
select organization_id, bench.id(since_ms, 3, base + k), 'M-' || k, 'First ' || k % 500, 'Last ' || k % 3000,
    date '1940-01-01' + ((base + k) % 25000)::integer, '+1 617 555 0100', since + k * interval '720 days' / patients
from bench.tenants, generate_series(1, patients) as k
order by k / patients::double precision;
insert into users (organization_id, user_id, email, name, role, provider_id, patient_id, created_at)
select organization_id, bench.id(since_ms, kind, base + k), role || k || '@bench-' || n || '.test', role || ' ' || k, role,
    case role when 'provider' then bench.id(since_ms, 2, base + k) end, case role when 'patient' then bench.id(since_ms, 3, base + k) end,
    since + k * interval '1 minute'
from bench.tenants, lateral (values (4, 'admin', 2, 1), (5, 'claims_processor', processors, 1), (6, 'provider', providers, 1),
    (7, 'patient', patients, 5)) as kinds (kind, role, count, step), generate_series(1, count, step) as k;
insert into care_relationships (organization_id, provider_id, patient_id, created_at)
select distinct on (organization_id, bench.treating(base + k, nth, providers), k) organization_id,
    bench.id(since_ms, 2, base + bench.treating(base + k, nth, providers)), bench.id(since_ms, 3, base + k), since
from bench.tenants, generate_series(1, patients) as k, generate_series(0, 1) as nth
union all
select organization_id, bench.id(since_ms, 2, base + provider), bench.id(since_ms, 3, base + k), since
from bench.tenants, generate_series(1, 2) as provider, generate_series(1, 50) as k where n = 1;

-- Secondary indexes, unique ones too, are made when the rows are there: a third of the time.
create table bench.later as
select i.indexrelid::regclass::text as name, i.indrelid::regclass::text as on_table, pg_get_indexdef(i.indexrelid) as definition,
    c.conname as constraint_name, case c.contype when 'p' then 'primary key' else 'unique' end as constraint_kind
from pg_index i left join pg_constraint c on c.conindid = i.indexrelid and c.contype in ('p', 'u')
where i.indrelid in ('claims'::regclass, 'claim_status_history'::regclass, 'audit_logs'::regclass)
  and not exists (select from pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f');
do $$ declare one bench.later; begin
    for one in select * from bench.later loop
        if one.constraint_name is null then
            execute format('drop index %s', one.name);
        else
            execute format('alter table %s drop constraint %I', one.on_table, one.constraint_name);
        end if;
    end loop;
end $$;

-- phase: claims
-- On two connections at once, each with every second claim: `set bench.part` to 0 and 1.
with bounds as (select array_agg(coalesce(lower, 0) order by n) as bounds
    from (select n, lag(up_to) over (order by n) as lower from bench.tenants where n > 1) as cumulated),
drawn as (
    select g, since + make_interval(secs => g * 63072000.0 / claims) as at, 730.0 * (claims - g) / claims as age,
        bench.chance(g, 6) as kind, case when g % 5 = 0 then 1 else 1 + width_bucket(bench.chance(g, 0), bounds) end as n,
        case when g % 5 = 0 and g / 5 > largest - 2 * few then 1 when g % 5 = 0 and g / 5 % (largest / few) < 2 then 2 end as special,
        case when g / 5 > largest - 2 * few then g / 5 % 2 else g / 5 % (largest / few) end as nth,
        g % 10 = 0 and g / 5 > largest - 2 * few - 2 * open as is_open, claims
    from bench.plan, bounds, generate_series(1 + current_setting('bench.part')::bigint, claims, 2) as g
),
placed as (
    select d.*, t.organization_id, t.since, t.since_ms, t.base, t.providers,
        case when special is not null and nth = 1 then special end as special_provider,
        case when special is not null and nth = 0 then special end as special_processor,
        case when special is not null and nth = 1 then 1 + g / 5 % 50
            else 1 + floor(bench.chance(g, 1) * (t.patients - 1) * g / claims)::bigint end as patient,
        bench.id(t.since_ms, 5, t.base + case when special is not null and nth = 0 then special
            else 3 + floor((t.processors - 2) * bench.chance(g, 3))::integer end) as worker,
        (500 * exp(7 * bench.chance(g, 5) ^ 2))::bigint + g % 100 as cents,
        case
            when special = 1 then case when nth = 1 then 'submitted' when kind < 0.7 then 'under_review' else 'pending_info' end
            when is_open then 'under_review'
            when kind < 0.01 then 'draft'
            when age < 10 then case when kind < 0.75 then 'submitted' when kind < 0.95 then 'under_review' else 'pending_info' end
            when age < 40 then case when kind < 0.10 then 'submitted' when kind < 0.50 then 'under_review' when kind < 0.60 then 'pending_info'
                                    when kind < 0.85 then 'approved' when kind < 0.97 then 'rejected' else 'appealed' end
            else case when kind < 0.83 then 'paid' when kind < 0.95 then 'rejected' when kind < 0.98 then 'voided'
                      when kind < 0.985 then 'reversed' when kind < 0.99 then 'under_review' when kind < 0.995 then 'appealed'
                      else 'approved' end
        end as status
    from drawn d join bench.tenants t using (n)
)
insert into claims (
    organization_id, claim_id, claim_number, patient_id, provider_id, diagnosis_code, amount_cents, approved_cents, service_date, status,
    notes, assigned_to, status_by, decided_by, submitted_at, processed_at, paid_at, created_at, updated_at, version, decision,
    first_decided_at, denial_reason)
select organization_id, bench.claim_id(g), 'CLM-' || upper(left(md5(g::text), 16)), bench.id(since_ms, 3, base + patient),
    bench.id(since_ms, 2, base + coalesce(special_provider, bench.treating(base + patient, (g % 2)::integer, providers))), code, cents,
    case decision when 'approved' then cents end, (at - interval '5 days' * bench.chance(g, 9))::date, status,
    case when g % 3 = 0 then 'Seen at the practice, complaints for ' || g % 20 || ' days, no known allergies.' end,
    case when status <> 'draft' and (moved or special_processor is not null or bench.chance(g, 8) < 0.3) then worker end,
    case when moved then worker end, case when decision is not null then worker end, case when status <> 'draft' then at end,
    case when decision is not null then moved_at end, case when status in ('paid', 'reversed') then moved_at end, at, moved_at,
    case when status in ('draft', 'submitted') then 1 when status in ('under_review', 'voided') then 2 when status = 'reversed' then 4 else 3
    end, decision, case when decision is not null then moved_at end, case decision when 'rejected' then 'Not covered' end
from placed join bench.codes on c = floor(1000 * bench.chance(g, 4) ^ 3)::integer,
    lateral (select status not in ('draft', 'submitted'),
        case when status in ('draft', 'submitted') then at else least(at + interval '3 days', since + interval '730 days') end,
        case when status in ('approved', 'paid', 'reversed') then 'approved' when status in ('rejected', 'appealed') then 'rejected' end
    ) as last_move (moved, moved_at, decision);

-- phase: history
-- On two connections at once: the first steps with a tenth of the entries, and all other steps.
insert into claim_status_history (organization_id, claim_id, version, from_status, to_status, at, by_user_id, by_role, source)
select organization_id, claim_id, s.version, from_status, to_status, case s.version when 1 then created_at else updated_at end,
    case when s.version > 1 then status_by end, case when s.version = 1 then 'provider' else 'claims_processor' end, 'api'
from claims c join bench.steps s using (status)
where (s.version = 1) = (current_setting('bench.part') = '0');
insert into audit_logs (
    organization_id, audit_id, at, actor_user_id, actor_role, action, entity, entity_id, patient_id, after, request_id, address)
select organization_id, bench.id((extract(epoch from created_at) * 1000)::bigint, 9, row_number() over ()), created_at, status_by, 'provider',
    'create', 'claims', claim_id, patient_id, jsonb_build_object('status', 'submitted', 'amount_cents', amount_cents), 'request', '192.0.2.1'
from claims
where uuid_hash(claim_id) % 10 = 0 and current_setting('bench.part') = '0';

-- phase: counts
-- Totals that triggers would have written.
select rebuild_claim_totals();
