-- Rules of users and invitations. An organization keeps at least one active admin.

-- Trigger: serializes changes that remove an active admin, by an advisory lock of the organization. If two admins demote each other at
-- once, the second waits here and is then rejected by app.keep_last_admin. A trigger of its own, because it runs as
-- claims_trigger_definer: an admin may not call lock functions, which could take other organizations' locks.
create or replace function app.lock_last_admin() returns trigger
language plpgsql security definer set search_path = app, pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('last admin of ' || new.organization_id, 0));
    return null;
end
$$;
alter function app.lock_last_admin owner to claims_trigger_definer;

-- Trigger: rejects demoting or deactivating the last active admin of an organization.
create or replace function app.keep_last_admin() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if not exists (select from users u where u.role = 'admin' and u.active) then
        perform raise_conflict(jsonb_build_object(
            case when new.role <> 'admin' then 'role' else 'active' end,
            jsonb_build_array('The last active admin can''t be demoted or deactivated')));
    end if;
    return null;
end
$$;

-- Trigger: rejects an invitation for an email that already has a user in the organization.
create or replace function app.check_invitation() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if exists (select from users u where u.email = new.email) then
        perform raise_conflict('{"email": ["Is taken"]}');
    end if;
    return new;
end
$$;
