#!/usr/bin/env bash
# openapi-generator 7.26.0 (PyPI openapi-generator-cli), generator "python", pydantic 2.14.4; needs Java.
# {"type": "boolean", "const": true} is generated without a warning, but the model compares the value with the text 'true':
# `if value not in set(['true'])`. So it refuses true, the only value that the schema allows, and each response with such a field fails in
# the client. `enum: [true]` gives the same code. A constant string works, and so does the constant boolean of the generators go and
# typescript-fetch. A boolean without const is the form that works in all.
# Seen:  const true: refused; enum [true]: refused; const "Bearer": accepted; boolean: accepted
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openapi-generator-cli==7.26.0 pydantic==2.14.4 \
    python-dateutil==2.9.0.post0 urllib3==2.8.0
cat > "$folder/document.json" <<'JSON'
{"openapi": "3.1.0", "info": {"title": "Answers", "version": "1"}, "servers": [{"url": "/"}], "paths": {},
 "components": {"schemas": {
  "ConstTrue": {"type": "object", "required": ["value"], "properties": {"value": {"type": "boolean", "const": true}}},
  "EnumTrue": {"type": "object", "required": ["value"], "properties": {"value": {"type": "boolean", "enum": [true]}}},
  "ConstBearer": {"type": "object", "required": ["value"], "properties": {"value": {"type": "string", "const": "Bearer"}}},
  "Plain": {"type": "object", "required": ["value"], "properties": {"value": {"type": "boolean"}}}}}}
JSON
"$folder/venv/bin/openapi-generator-cli" generate -i "$folder/document.json" -g python -o "$folder/client" > "$folder/log" 2>&1 ||
    { cat "$folder/log"; exit 1; }
cat > "$folder/see.py" <<'PYTHON'
import json
import sys

from openapi_client import models

sent = {"ConstTrue": True, "EnumTrue": True, "ConstBearer": "Bearer", "Plain": True}
seen = {}
for name, value in sent.items():
    try:
        getattr(models, name).from_json(json.dumps({"value": value}))
        seen[name] = "accepted"
    except ValueError as error:
        seen[name] = "refused"
        print(f"{name}: {str(error).splitlines()[2].strip()}")
print(seen)
sys.exit(seen != {"ConstTrue": "refused", "EnumTrue": "refused", "ConstBearer": "accepted", "Plain": "accepted"})
PYTHON
PYTHONPATH="$folder/client" "$folder/venv/bin/python" "$folder/see.py" &&
    echo 'as seen: const true: refused; enum [true]: refused; const "Bearer": accepted; boolean: accepted'
