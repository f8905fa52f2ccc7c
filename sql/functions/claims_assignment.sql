-- Who works on a claim: an admin hands it out, or a processor takes the next one.

-- A claim is handed to an active processor of the organization, or to nobody.
create or replace function app.check_assignment() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    worker users;
begin
    if new.assigned_to is not null then
        select u.* into worker from users u where u.user_id = new.assigned_to;
        if not found then
            perform raise_invalid('{"userId": ["No such user"]}');
        elsif worker.role <> 'claims_processor' or not worker.active then
            perform raise_conflict('{"userId": ["Must be an active claims processor"]}');
        end if;
    end if;
    return new;
end
$$;

-- The oldest open claim that nobody works on becomes the caller's; all null when there is none. A row that another caller has
-- locked is passed over, so two never get the same one and neither waits. Not an appeal against the caller's own decision: that
-- is somebody else's to take up. Runs as claims_auth_definer, since a processor sees no claim before it is assigned.
create or replace function app.assign_next_claim() returns app.claims
language sql security definer set search_path = app, pg_catalog, pg_temp as $$
    update claims set assigned_to = context.variable('user_id')
    where claim_id = (
        select c.claim_id from claims c
        where c.assigned_to is null and c.status in ('submitted', 'pending_info', 'appealed')
          and (c.status <> 'appealed' or c.decided_by is distinct from context.variable('user_id'))
        order by c.created_at, c.claim_id
        limit 1
        for update skip locked)
    returning claims
$$;
alter function app.assign_next_claim owner to claims_auth_definer;
grant execute on function app.assign_next_claim to claims_processor;

-- Hands all of a user's claims that can still move to a processor, or to nobody; how many.
create or replace function app.reassign_claims(p_from uuid, p_to uuid) returns integer
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    moved integer;
begin
    if p_to is not null and not exists (select from users u where u.user_id = p_to) then
        perform raise_invalid('{"toUserId": ["No such user"]}');
    elsif p_to is not null and not exists (
        select from users u where u.user_id = p_to and u.role = 'claims_processor' and u.active) then
        perform raise_conflict('{"toUserId": ["Must be an active claims processor"]}');
    end if;
    -- Locked in the order of their ids, as update_status_bulk takes them: in another order the two could wait for each other.
    perform from claims c where c.assigned_to = p_from and c.status not in ('voided', 'reversed')
    order by c.claim_id for no key update;
    update claims set assigned_to = p_to where assigned_to = p_from and status not in ('voided', 'reversed');
    get diagnostics moved = row_count;
    return moved;
end
$$;
grant execute on function app.reassign_claims to claims_admin;
