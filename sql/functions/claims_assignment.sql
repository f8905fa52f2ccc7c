-- Assignment of claims to processors: by an admin, or by a processor who requests the next one.

-- Trigger: a claim is assigned to an active processor of the organization, or to no user. A draft or a voided claim needs no processor, and
-- an appeal needs another one than the decision.
create or replace function app.check_assignment() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    assignee users;
begin
    if new.assigned_to is not null then
        select u.* into assignee from users u where u.user_id = new.assigned_to;
        if not found then
            perform raise_invalid('{"userId": ["No such user"]}');
        elsif assignee.role <> 'claims_processor' or not assignee.active then
            perform raise_conflict('{"userId": ["Must be an active claims processor"]}');
        elsif new.status in ('draft', 'voided') then
            perform raise_conflict(jsonb_build_object('status', jsonb_build_array(
                format('A claim that is %s can''t be assigned', new.status))));
        elsif new.status = 'appealed' and new.assigned_to = new.decided_by then
            perform raise_conflict('{"userId": ["Decided this claim, so another processor must take up its appeal"]}');
        end if;
    end if;
    return new;
end
$$;

-- Trigger: returns the claims of a processor who is deactivated or gets another role to the queue. Those in a final status remain.
create or replace function app.release_claims() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    -- Locked in the order of their ids, like reassign_claims.
    perform from claims c
    where c.organization_id = new.organization_id and c.assigned_to = new.user_id and c.status not in ('voided', 'reversed')
    order by c.claim_id for no key update;
    update claims c set assigned_to = null
    where c.organization_id = new.organization_id and c.assigned_to = new.user_id and c.status not in ('voided', 'reversed');
    return null;
end
$$;

-- Assigns the oldest open, unassigned claim to the caller and returns it; a row of nulls if there is none.
-- * Claims that another caller has locked are skipped, so two callers never get the same claim and neither waits.
-- * An appeal against the caller's own decision is left to other processors.
-- * It runs as claims_auth_definer, because a processor can't see a claim before it is assigned.
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

-- Reassigns all of a user's claims that are not in a final status to a processor, or to no user (p_to is null). Returns how many. An appeal
-- against a decision of p_to remains where it is.
create or replace function app.reassign_claims(p_from uuid, p_to uuid) returns integer
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
declare
    reassigned integer;
begin
    if p_to is not null and not exists (select from users u where u.user_id = p_to) then
        perform raise_invalid('{"toUserId": ["No such user"]}');
    elsif p_to is not null and not exists (
        select from users u where u.user_id = p_to and u.role = 'claims_processor' and u.active) then
        perform raise_conflict('{"toUserId": ["Must be an active claims processor"]}');
    end if;
    -- Locked in the order of their ids, like update_status_bulk: another order could deadlock.
    perform from claims c where c.assigned_to = p_from and c.status not in ('voided', 'reversed')
    order by c.claim_id for no key update;
    update claims set assigned_to = p_to
    where assigned_to = p_from and status not in ('voided', 'reversed')
      and (status <> 'appealed' or decided_by is distinct from p_to or p_to is null);
    get diagnostics reassigned = row_count;
    return reassigned;
end
$$;
grant execute on function app.reassign_claims to claims_admin;
