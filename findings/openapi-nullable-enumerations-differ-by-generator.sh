#!/usr/bin/env bash
# openapi-python-client 0.29.1 and @hey-api/openapi-ts 0.99.0 (TypeScript 5.9.3, Node.js 20); needs npm.
# An enumeration that may be null has three valid spellings in OpenAPI 3.1, and each generator misreads another one, without a warning:
# - {"type": ["string", "null"], "enum": ["a", "b", null]}: openapi-python-client makes three equal enum classes and a union of them;
# - {"enum": ["a", "b", null]}: @hey-api/openapi-ts drops null, so that the compiler takes the field for one that is never null.
# With a title, the first spelling gives one class. So {"type": ["string", "null"], "title": ..., "enum": [..., null]} works in both.
# Seen:  openapi-python-client: 3 classes, with a title 1; openapi-ts: 'a' | 'b' | null, without a type 'a' | 'b'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/document.json" <<'JSON'
{"openapi": "3.1.0", "info": {"title": "Letters", "version": "1"}, "servers": [{"url": "/"}],
 "paths": {"/letters": {"get": {"operationId": "getLetters", "responses": {"200": {"description": "Letters.", "content": {
   "application/json": {"schema": {"$ref": "#/components/schemas/Letters"}}}}}}}},
 "components": {"schemas": {"Letters": {"type": "object", "required": ["typed", "titled", "untyped"], "properties": {
  "typed": {"type": ["string", "null"], "enum": ["a", "b", null]},
  "titled": {"type": ["string", "null"], "title": "Letter", "enum": ["a", "b", null]},
  "untyped": {"enum": ["a", "b", null]}}}}}}
JSON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openapi-python-client==0.29.1
PATH="$folder/venv/bin:$PATH" openapi-python-client generate --path "$folder/document.json" --meta none --output-path "$folder/client" \
    --fail-on-warning > "$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
classes() { grep -oE "^    $1: .*" "$folder/client/models/letters.py" | grep -oE 'Letters[A-Za-z0-9]+' | wc -l; }
echo "openapi-python-client: $(grep -E '^    (typed|titled): ' "$folder/client/models/letters.py" | sort -u | xargs)"
test "$(classes typed)" = 3
test "$(classes titled)" = 1
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund @hey-api/openapi-ts@0.99.0 typescript@5.9.3
node_modules/.bin/openapi-ts -i document.json -o types --no-log-file > log 2>&1 || { cat log; exit 1; }
echo "openapi-ts: $(grep -E '^    (typed|untyped): ' types/types.gen.ts | xargs -0)"
grep -q "^    typed: 'a' | 'b' | null;" types/types.gen.ts
grep -q "^    untyped: 'a' | 'b';" types/types.gen.ts
echo "as seen: openapi-python-client: 3 classes, with a title 1; openapi-ts: 'a' | 'b' | null, without a type 'a' | 'b'"
