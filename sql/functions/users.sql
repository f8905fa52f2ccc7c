-- Who may be what.

-- The last active admin stays one. Whoever takes a role or a login away waits for whoever else does: two admins who demote each
-- other at the same moment are one who does and one who is refused.
create or replace function app.keep_last_admin() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('last admin of ' || new.organization_id, 0));
    if not exists (select from users u where u.role = 'admin' and u.active) then
        perform refuse_now(jsonb_build_object(
            case when new.role <> 'admin' then 'role' else 'active' end, jsonb_build_array('The last active admin stays')));
    end if;
    return null;
end
$$;
create or replace trigger users_30_keep_last_admin after update of role, active on app.users
    for each row when (old.role = 'admin' and old.active and not (new.role = 'admin' and new.active))
    execute function app.keep_last_admin();

-- Nobody is invited who is here already.
create or replace function app.check_invitation() returns trigger
language plpgsql set search_path = app, pg_catalog, pg_temp as $$
begin
    if exists (select from users u where u.email = new.email) then
        perform refuse_now('{"email": ["Is taken"]}');
    end if;
    return new;
end
$$;
create or replace trigger invitations_10_check before insert on app.invitations for each row execute function app.check_invitation();
