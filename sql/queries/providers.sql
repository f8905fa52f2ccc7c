-- name: create
-- Creates a provider in the caller's organization.
insert into providers as p (@columns)
values (@values)
returning provider_json(p);

-- name: list_newest
-- written out: limit
-- The providers that the caller may see, newest first.
select json_build_array(p.created_at, p.provider_id), provider_json(p)
from providers p
where true
and (p.created_at, p.provider_id) < ((select (:after::json ->> 0)::timestamptz), (select (:after::json ->> 1)::uuid)) -- if :after
order by p.created_at desc, p.provider_id desc
limit :limit + 1
offset :offset -- if :offset
;

-- name: count
-- The number of rows of list_newest, up to 10,001.
select count(*) from (select from providers limit 10001) as counted;

-- name: get
-- One provider; no row if it does not exist or the caller may not see it.
select provider_json(p)
from providers p
where p.provider_id = :provider_id;

-- name: change
-- Updates the columns that were sent. No row if the caller is another provider.
update providers as p
set name = coalesce(:name, p.name)
    , npi = :npi -- if :npi
    , specialty = :specialty -- if :set_specialty
    , email = :email -- if :set_email
where p.provider_id = :provider_id
returning provider_json(p);
