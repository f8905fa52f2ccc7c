-- name: create
-- Creates a claim with the columns of NewClaim, as far as the caller may insert them. Triggers validate it and add its first history row and
-- the care relationship. To call insert_claim, as imports do, would cost 4% of a create, and 13% if roles alternate on a connection.
insert into claims as c (@columns)
values (@values)
returning claim_json(c), c.version
    , possible_duplicates(c) -- if :unnumbered
;

-- fragment: filters
-- The filters of list and count.
and c.status = :status -- if :status
and c.status = any (:statuses) -- if :statuses
and c.patient_id = :patient_id -- if :patient_id
and c.provider_id = :provider_id -- if :provider_id
and c.assigned_to is null and :unassigned -- if :unassigned
and c.assigned_to = current_setting('app.user_id')::uuid and :mine -- if :mine
and c.assigned_to = :assigned_to::uuid -- if :assigned_to
and c.service_date >= :service_date_from -- if :service_date_from
and c.service_date <= :service_date_to -- if :service_date_to
and c.amount_cents >= :amount_min -- if :amount_min
and c.amount_cents <= :amount_max -- if :amount_max
and c.diagnosis_code = icd10(:diagnosis_code) -- if :diagnosis_code
and c.created_at >= :created_from -- if :created_from
and c.created_at <= :created_to -- if :created_to
and c.claim_number ^@ :claim_number -- if :claim_number

-- name: list
-- written out: limit status
-- sorts: created_at timestamptz, service_date date, amount_cents bigint
-- The claims that the caller may see. At most limit + 1 rows: one more shows that there is a next page.
select json_build_array(c.@sort, c.claim_id), claim_json(c)
from claims c
where true
-- use: filters
and (c.@sort, c.claim_id) @after ((select (:after::json ->> 0)::@type), (select (:after::json ->> 1)::uuid)) -- if :after
order by c.@sort @direction, c.claim_id @direction
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- written out: status
-- The number of rows of list, up to 10,001.
select count(*)
from (
    select
    from claims c
    where true
    -- use: filters
    limit 10001
) as counted;

-- name: get
-- One claim with its history, oldest first; no row if it does not exist or the caller may not see it. The read is recorded.
-- The history is inserted before the closing brace of the text: merging as jsonb takes 48 us more.
select (left(claim_json(c)::text, -1) || ',"statusHistory":' || coalesce((
    select json_agg(json_build_object(
        'from', h.from_status,
        'to', h.to_status,
        'at', to_rfc3339(h.at),
        'byUserId', h.by_user_id,
        'byRole', h.by_role,
        'reason', h.reason,
        'source', h.source,
        'eventId', h.event_id) order by h.version)
    from claim_status_history h
    where h.claim_id = c.claim_id)::text, '[]') || '}')::json, c.version
from claims c, record_access('read', 'claims', c.claim_id, c.patient_id)
where c.claim_id = :claim_id;

-- name: exists
-- One row if the caller may see the claim: distinguishes another version (412) from no claim (404).
select 1
from claims c
where c.claim_id = :claim_id;

-- name: update_status
-- Changes the status of a claim, and its notes if given. A trigger rejects illegal changes.
update claims as c
set status = :status, status_reason = :reason, denial_reason = :denial_reason, denial_code = :denial_code,
    approved_cents = :approved_cents
    , notes = :notes -- if :set_notes
where c.claim_id = :claim_id
and c.version = any (:versions) -- if :versions
returning claim_json(c), c.version;

-- name: update_notes
-- Changes the notes of a claim.
update claims as c
set notes = :notes
where c.claim_id = :claim_id
and c.version = any (:versions) -- if :versions
returning claim_json(c), c.version;

-- name: lock_unchanged
-- Returns the claim unchanged, for a request that changes nothing. Locking needs the same grant as an update.
select claim_json(c), c.version
from claims c
where c.claim_id = :claim_id
and c.version = any (:versions) -- if :versions
for no key update;

-- name: assign
-- Assigns a claim to a processor, or to no user. A trigger rejects other users.
update claims as c
set assigned_to = :user_id
where c.claim_id = :claim_id
and c.version = any (:versions) -- if :versions
returning claim_json(c), c.version;

-- name: assign_next
-- Assigns the oldest open, unassigned claim to the caller; no row if there is none.
select claim_json(c), c.version
from assign_next_claim() c
where c.claim_id is not null;

-- name: update_status_bulk
-- Changes the status of each claim independently; the result has the error of each that was not changed.
select update_status_bulk(:claim_ids, :status, :reason, :denial_reason);

-- name: stats
-- Counts and sums of the claims that the caller may see: from the totals for admins and providers; from the claims for other roles, which
-- see few.
with seen as (
    select status, count, cents, decided, approved, timed, seconds
    from claim_totals_by_status(:service_date_from, :service_date_to)
    union all
    select c.status, count(*), sum(c.amount_cents), count(c.decision), count(*) filter (where c.decision = 'approved'),
           count(c.first_decided_at), sum(extract(epoch from c.first_decided_at - c.submitted_at))
    from claims c
    where caller_role() in ('claims_processor', 'patient')
    and c.service_date >= :service_date_from -- if :service_date_from
    and c.service_date <= :service_date_to -- if :service_date_to
    group by c.status
)
select json_build_object(
    'byStatus', json_object_agg(s.status, json_build_object(
        'count', coalesce(seen.count, 0),
        'amount', from_cents(coalesce(seen.cents, 0)::bigint))),
    'total', json_build_object(
        'count', coalesce(sum(seen.count), 0)::bigint,
        'amount', from_cents(coalesce(sum(seen.cents), 0)::bigint)),
    'approvalRate', round(sum(seen.approved) / nullif(sum(seen.decided), 0), 4),
    'averageProcessingHours', round(sum(seen.seconds) / nullif(sum(seen.timed), 0) / 3600, 2))
from claim_statuses() as s (status)
left join seen on seen.status = s.status;

-- name: reserve_import
-- Reserves an idempotency key for the whole body of an import. False: it was used for another body.
select same
from reserve_import(:path, :key, :body_hash) as same;

-- name: import_lines
-- Imports each line independently: the line's number and its result.
select line, result
from import_claims(:lines::jsonb, :key);

-- name: record_export
-- Records an export, before its first row is sent. Returns the organization's day, for the name of the file.
select limits.today::text
from claim_limits() as limits, record_access('export', 'claims');
