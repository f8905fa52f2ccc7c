-- name: list_newest
-- written out: limit
-- What the caller may see of the trail, newest first.
select json_build_array(a.at, a.audit_id), audit_json(a)
from audit_logs a
where true
and a.actor_user_id = :actor_user_id -- if :actor_user_id
and a.action = :action -- if :action
and a.entity = :entity -- if :entity
and a.entity_id = :entity_id -- if :entity_id
and a.at >= :at_from -- if :at_from
and a.at <= :at_to -- if :at_to
and (a.at, a.audit_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by a.at desc, a.audit_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- As many as list_newest would show, counted no further than 10,001.
select count(*)
from (
    select
    from audit_logs a
    where true
    and a.actor_user_id = :actor_user_id -- if :actor_user_id
    and a.action = :action -- if :action
    and a.entity = :entity -- if :entity
    and a.entity_id = :entity_id -- if :entity_id
    and a.at >= :at_from -- if :at_from
    and a.at <= :at_to -- if :at_to
    limit 10001
) as counted;

-- name: record_reading
-- Reading the trail is itself an entry of it; a row always.
select record_access('read', 'audit_logs');

-- name: record_denial
-- Before the answer goes out that says no.
-- signed: tenant user_id request_id address entity entity_id outcome asked
select auth.record_denial(:tenant, :user_id, :request_id, :address, :entity, :entity_id, :outcome, :asked, :proof);
