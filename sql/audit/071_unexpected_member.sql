-- A membership gives all rights of a role. Expected: claims_api may become the four product roles and claims_worker claims_system, but
-- neither has their rights before; claims_check_<role> has the rights of claims_<role>; reporting logins are members of claims_reporting.
-- Each member of claims_operator is reported, because it acts without a verified context.
-- Left out: superusers, who are members of every role, and PostgreSQL's own roles (072).
with ours as (select * from schema_admin.our_roles()),
expected (member, role, inherits) as (values
    ('claims_api', 'claims_admin', false), ('claims_api', 'claims_processor', false), ('claims_api', 'claims_provider', false),
    ('claims_api', 'claims_patient', false), ('claims_worker', 'claims_system', false), ('claims_check_admin', 'claims_admin', true),
    ('claims_check_processor', 'claims_processor', true), ('claims_check_provider', 'claims_provider', true),
    ('claims_check_patient', 'claims_patient', true), ('claims_reporting_personal', 'claims_reporting', true)
),
membership as (  -- inherit_option exists since PostgreSQL 16; before, the member's attribute decides
    select m.rolname as member, r.rolname as role, bool_or(x.admin_option) as admin,
           bool_or(coalesce((to_jsonb(x) ->> 'inherit_option')::boolean, m.rolinherit)) as inherits,
           m.oid in (select oid from ours) as is_ours
    from pg_auth_members x join pg_roles m on m.oid = x.member join pg_roles r on r.oid = x.roleid
    where (x.member in (select oid from ours) or x.roleid in (select oid from ours) and not m.rolsuper) and r.rolname !~ '^pg_'
    group by m.oid, m.rolname, r.rolname, m.rolinherit
),
found (object, problem, remedy) as (
    select m.member, format('is a member of %I', m.role), format('revoke %I from %I', m.role, m.member)
    from membership m
    where not exists (select from expected e where (e.member, e.role) = (m.member, m.role))
      and not (m.role in ('claims_reporting', 'claims_reporting_personal') and not m.is_ours)
    union all
    select m.member, format('may grant %I to other roles', m.role), format('revoke admin option for %I from %I', m.role, m.member)
    from membership m
    where m.admin and (m.role in ('claims_reporting', 'claims_reporting_personal')
                       or exists (select from expected e where (e.member, e.role) = (m.member, m.role)))
    union all
    select m.member,
           format(case when m.inherits then 'has the rights of %I without becoming it' else 'does not have the rights of %I' end, m.role),
           case when current_setting('server_version_num')::integer < 160000
                then format('alter role %I %s', m.member, case when e.inherits then 'inherit' else 'noinherit' end)
                else format('grant %I to %I with inherit %s', m.role, m.member, case when e.inherits then 'true' else 'false' end) end
    from membership m join expected e on (e.member, e.role) = (m.member, m.role)
    where m.inherits <> e.inherits
)
select '071 unexpected member' as check, object::text, problem, remedy from found order by 2, 3;
