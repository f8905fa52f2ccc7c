-- Compares the audit log with its seals. Shows the first entry or seal of each organization that was changed, deleted, swapped, inserted
-- later or backdated, in the columns of the numbered checks; no rows if the log is intact. It reads every entry, which takes minutes for
-- millions. A role that may write everything can rewrite all seals from any point on. Only heads that were noted elsewhere show that. The
-- worker logs them and `make audit-heads` prints them: `HEADS=file psql -f sql/operations/verify_audit.sql`.
\set heads `cat "${HEADS:-/dev/null}"`
select "check", object, problem, remedy
from app.verify_audit_logs(:'heads');
