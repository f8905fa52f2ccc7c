-- Shows totals that differ from the sum of the claims (`make totals-verify`), as an administrator. It uses one snapshot, so it is exact
-- while claims are written. `select app.rebuild_claim_totals()` corrects the totals.
\set ON_ERROR_STOP on
set row_security = off;
select coalesce(kept.organization_id, counted.organization_id) as organization_id, coalesce(kept.scope_id, counted.scope_id) as scope_id,
       coalesce(kept.service_date, counted.service_date) as service_date, coalesce(kept.status, counted.status) as status,
       kept.count as kept, counted.count as counted, kept.cents as kept_cents, counted.cents as counted_cents
from app.claim_totals kept
full join app.expected_totals() counted
    on (kept.organization_id, kept.scope_id, kept.service_date, kept.status)
        = (counted.organization_id, counted.scope_id, counted.service_date, counted.status)
where kept is distinct from counted
order by 1, 2, 3, 4;
