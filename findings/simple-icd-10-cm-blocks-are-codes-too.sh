#!/usr/bin/env bash
# simple-icd-10-cm 1.5.0 (ICD-10-CM of April 2026).
# Chapters, blocks and categories of ICD-10-CM share one name space: a block with a single category has that category's name. B20 (HIV) is
# the only category of block B20, likewise R99, Z66 and 36 more. The package's list has one entry for both, and for it is_block and
# is_category are both true. So a list of codes made by leaving out chapters and blocks lacks 39 codes. Five of them are billable: B20,
# F99, P84, R99 and Z66, and every claim for HIV is then refused. Asking is_category or is_subcategory gives all 98,186.
# Seen:  not a chapter or block: 98147; a category or subcategory: 98186; in the second alone 39, billable B20 F99 P84 R99 Z66
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'simple-icd-10-cm==1.5.0'
cat > "$folder/see.py" <<'PYTHON'
import sys

import simple_icd_10_cm as icd

every = icd.get_all_codes(with_dots=True)
left_over = {one for one in every if not icd.is_chapter(one) and not icd.is_block(one)}
chosen = {one for one in every if icd.is_category(one) or icd.is_subcategory(one)}
billable = sorted(one for one in chosen - left_over if icd.is_leaf(one))
print(f"not a chapter or block: {len(left_over)}; a category or subcategory: {len(chosen)};",
      f"in the second alone {len(chosen - left_over)}, billable {' '.join(billable)}")
print(f"B20: is_block {icd.is_block('B20')}, is_category {icd.is_category('B20')}")
sys.exit((len(left_over), len(chosen), billable) != (98147, 98186, ["B20", "F99", "P84", "R99", "Z66"]))
PYTHON
"$folder/venv/bin/python" "$folder/see.py"
