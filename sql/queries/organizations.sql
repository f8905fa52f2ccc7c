-- name: get
-- The caller's organization, with its settings if the caller's role may read them.
select organization_json(o.organization_id, o.slug, o.name, readable_settings(o.organization_id))
from organizations o;

-- name: change
-- Updates the columns that were sent.
update organizations as o
set name = coalesce(:name, o.name),
    slug = coalesce(:slug, o.slug),
    claim_amount_limit_cents = coalesce(:claim_amount_limit_cents, o.claim_amount_limit_cents),
    auto_approve_limit_cents = coalesce(:auto_approve_limit_cents, o.auto_approve_limit_cents),
    timezone = coalesce(:timezone, o.timezone),
    decision_days = coalesce(:decision_days, o.decision_days),
    appeal_window_days = coalesce(:appeal_window_days, o.appeal_window_days)
returning organization_json(o.organization_id, o.slug, o.name, settings_json(o));
