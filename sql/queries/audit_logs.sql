-- fragment: filters
-- The filters of list_newest and count.
and a.actor_user_id = :actor_user_id -- if :actor_user_id
and a.action = :action -- if :action
and a.entity = :entity -- if :entity
and a.entity_id = :entity_id -- if :entity_id
and a.at >= :at_from -- if :at_from
and a.at <= :at_to -- if :at_to

-- name: list_newest
-- written out: limit
-- The audit entries that the caller may see, newest first.
select json_build_array(a.at, a.audit_id), audit_json(a)
from audit_logs a
where true
-- use: filters
and (a.at, a.audit_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by a.at desc, a.audit_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*)
from (
    select
    from audit_logs a
    where true
    -- use: filters
    limit 10001
) as counted;

-- name: record_reading
-- Records that the caller reads the audit log; always one row.
select record_access('read', 'audit_logs');

-- name: record_denial
-- Records a denied request, before its response is sent.
-- signed: tenant user_id request_id address entity entity_id outcome asked
select auth.record_denial(:tenant, :user_id, :request_id, :address, :entity, :entity_id, :outcome, :asked, :proof);
