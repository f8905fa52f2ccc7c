"""Comparison of the catalog facts that the schema step stored with those of the catalog now (sql/deploy/schema_admin.sql)."""

from collections.abc import Iterable

APPLIED_AND_NOW = """
select array(select fact from schema_admin.facts_applied), array(select schema_admin.facts())"""
MAX_LINES = 50


def name_changes(applied: Iterable[str], now: Iterable[str]) -> list[str]:
    """Three lines for each added, removed or changed object. Beyond MAX_LINES, only the number of other objects.

    A fact begins with its kind and object, then a colon and a space. All facts of an object are compared together.
    """
    before, after = _by_object(applied), _by_object(now)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    listed = changed if 3 * len(changed) <= MAX_LINES else changed[: (MAX_LINES - 1) // 3]
    lines = []
    for name in listed:
        was, is_ = before.get(name, "missing"), after.get(name, "missing")
        lines += [f"changed by hand: {name}", f"    was: {was}", f"    is:  {is_}"]
    if len(changed) > len(listed):
        lines.append(f"and {len(changed) - len(listed)} more changed by hand")
    return lines


def _by_object(facts: Iterable[str]) -> dict[str, str]:
    objects: dict[str, str] = {}
    for fact in sorted(" ".join(fact.split()) for fact in facts):
        name, _, value = fact.partition(": ")
        objects[name] = f"{objects[name]}; {value}" if name in objects else value
    return objects
