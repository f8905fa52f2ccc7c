"""Names what differs between the facts that the schema step stored and those of the catalog now (sql/deploy/schema_admin.sql)."""

from collections.abc import Iterable

APPLIED_AND_NOW = """
select array(select fact from schema_admin.facts_applied), array(select schema_admin.facts())"""
MAX_LINES = 50


def name_changes(applied: Iterable[str], now: Iterable[str]) -> list[str]:
    """One entry of three lines for each object that is new, gone or changed; at most MAX_LINES lines, then how many are left.

    A fact begins with its kind and object, then a colon and a space. An object with more than one fact is compared as a whole.
    """
    before, after = _by_object(applied), _by_object(now)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    shown = changed if 3 * len(changed) <= MAX_LINES else changed[: (MAX_LINES - 1) // 3]
    lines = []
    for name in shown:
        was, is_ = before.get(name, "missing"), after.get(name, "missing")
        lines += [f"changed by hand: {name}", f"    was: {was}", f"    is:  {is_}"]
    if len(changed) > len(shown):
        lines.append(f"and {len(changed) - len(shown)} more changed by hand")
    return lines


def _by_object(facts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for fact in sorted(" ".join(fact.split()) for fact in facts):
        name, _, value = fact.partition(": ")
        found[name] = f"{found[name]}; {value}" if name in found else value
    return found
