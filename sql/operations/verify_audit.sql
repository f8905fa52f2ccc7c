-- Compares the trail with its seals: the first entry or seal of each organization that was changed, deleted, swapped, put in later or
-- dated back, in the columns of the numbered checks; no rows where all is well. It reads every entry: minutes where there are millions.
-- Who may write everything can make a chain anew from any seal on. That shows against heads that were noted elsewhere (the worker's log
-- has them, `make heads` prints them): `HEADS=file psql -f sql/operations/verify_audit.sql`.
\set heads `cat "${HEADS:-/dev/null}"`
select "check", object, problem, remedy
from app.verify_audit_logs(:'heads');
