"""The schemas of the OpenAPI document, in the subset of JSON Schema that generators of clients understand.

msgspec writes the schemas of the structs that validate requests. Here they get names and lose what a generator can't read. The rules
are those of tests/http/test_openapi_clients.py.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import msgspec

from app.http.openapi.examples import EXAMPLES
from app.http.openapi.text import PUBLISHED_NAMES, REF, Json
from app.http.schemas import DOCUMENTED_PATTERNS, END, describe_custom
from app.vocabulary import ACTING_ROLES, ClaimStatus, EventType, JobStatus, JobType, Role

WORDS: dict[str, Any] = {
    "ClaimStatus": ClaimStatus,
    "Role": Role,
    "ActingRole": Literal[ACTING_ROLES],
    "EventType": EventType,
    "JobType": JobType,
    "JobStatus": JobStatus,
}
"""Enumerations that are types of their own, in the order of the vocabulary."""
NAMES = {frozenset(get_args(words)): name for name, words in WORDS.items()}
FIELD_ERRORS: Json = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}
"""The problems of each invalid field, which several components contain. A name avoids one type for each."""
TYPES = {str: "string", bool: "boolean", int: "integer"}


class Components:
    """The named schemas of a document."""

    def __init__(self, shapes: Iterable[Any]) -> None:
        """shapes: the structs of bodies and responses."""
        unique = list(dict.fromkeys(shapes))
        schemas, found = msgspec.json.schema_components(unique, schema_hook=describe_custom, ref_template=REF)
        for shape in unique:
            found.get(getattr(shape, "__name__", ""), {}).update(getattr(shape, "json_schema", {}))
        self.schemas: Json = {name: {"type": "string", "enum": [*get_args(words)]} for name, words in WORDS.items()}
        self.schemas["FieldErrors"] = {
            "description": "The problems of each invalid field, by its name.",
            **FIELD_ERRORS,
        }
        self.schemas |= {PUBLISHED_NAMES.get(name, name): portable(schema) for name, schema in found.items()}
        self._of = {shape: portable(schema) for shape, schema in zip(unique, schemas, strict=True)}
        self._name_nullable()
        for name, schema in self.schemas.items():
            self._complete(name, schema)

    def of(self, shape: Any) -> Json:
        """The schema of a struct, or of a list of them: a reference."""
        schema: Json = self._of[shape]
        return schema

    def example(self, schema: Json) -> Any:
        """The example of a reference."""
        return EXAMPLES[schema["$ref"].rpartition("/")[2]]

    def envelope(self, shape: Any, *, paged: bool) -> Json:
        """A reference to the envelope around the shape, which is a component of its own: ClaimResponse, ClaimPage."""
        data = self.of(shape)
        inner = data["items"] if paged else data
        name = inner["$ref"].rpartition("/")[2] + ("Page" if paged else "Response")
        meta = "PageMeta" if paged else PUBLISHED_NAMES["ResponseMeta"]
        properties = {
            "success": {"type": "boolean", "description": "Always true."},
            "data": data,
            "meta": {"$ref": REF.format(name=meta)},
        }
        self.schemas[name] = {
            "title": name,
            "description": "A page of a list." if paged else "A successful response.",
            "type": "object",
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }
        return {"$ref": REF.format(name=name)}

    def _complete(self, name: str, schema: Json) -> None:
        """Adds the component's title and examples; a property's example is that of the whole component."""
        schema["title"] = name
        if "description" in schema:  # its lines have the indentation of the docstring
            schema["description"] = inspect.cleandoc(schema["description"])
        for field in schema.get("required", []):
            schema["properties"][field].pop("default", None)
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
            for field, property_ in schema.get("properties", {}).items():
                property_.pop("examples", None)
                if "$ref" not in property_ and EXAMPLES[name].get(field) is not None:
                    property_["examples"] = [EXAMPLES[name][field]]

    def _name_nullable(self) -> None:
        """Makes each reference that may also be null one to a component that allows null.

        That is the component itself if all of its uses allow null; otherwise a second one, which begins with Nullable.
        """
        plain = {one["$ref"] for one in _objects([self.schemas, self._of]) if "$ref" in one and NULLABLE not in one}
        nullable = [one for one in _objects([self.schemas, self._of]) if NULLABLE in one]
        for one in nullable:
            del one[NULLABLE]
            name = one["$ref"].rpartition("/")[2]
            if one["$ref"] in plain:
                name, original = f"Nullable{name}", self.schemas[name]
                self.schemas.setdefault(name, dict(original))
                one["$ref"] = REF.format(name=name)
            component = self.schemas[name]
            if isinstance(component["type"], str):
                component.update(_or_null(component))


NULLABLE = "x-nullable"
"""Marks a reference that may be null, until _name_nullable replaces it."""


def portable(schema: Any) -> Any:
    """The schema in the subset that generators understand."""
    if isinstance(schema, list):
        return [portable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if all("enum" in one for one in schema.get("anyOf", [{}])):
        schema = {"enum": [value for one in schema["anyOf"] for value in one["enum"]]}
    schema = {key: _members(value) if key == "properties" else portable(value) for key, value in schema.items()}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return schema | {"$ref": REF.format(name=PUBLISHED_NAMES.get(name, name))}
    if schema == FIELD_ERRORS:
        return {"$ref": REF.format(name="FieldErrors")}
    if schema.get("default", 0) is None or schema.get("default") is False:
        del schema["default"]
    if "pattern" in schema:
        pattern = schema["pattern"].removesuffix(END)
        schema["pattern"] = DOCUMENTED_PATTERNS.get(pattern, pattern)
    if "enum" in schema:
        schema = _enumeration(schema)
    if schema.get("type") == "object" and "properties" not in schema:
        schema.setdefault("additionalProperties", True)
    if schema.get("type") == "number":
        schema["format"] = "double"
    return _nullable(schema) if "anyOf" in schema else schema


def _members(properties: Json) -> Json:
    """The properties by name. A name is no keyword, even if it is spelled like one."""
    return {name: portable(schema) for name, schema in properties.items()}


def _enumeration(schema: Json) -> Json:
    """A reference to a named enumeration, a constant, or an enumeration with its type."""
    values = schema.pop("enum")
    if name := NAMES.get(frozenset(values)):
        return schema | {"$ref": REF.format(name=name)}
    schema |= {"type": TYPES[type(values[0])]}
    if isinstance(values[0], bool):  # some generators refuse a constant boolean, and others compare it with a text
        return schema | {"description": f"Always {str(values[0]).lower()}."}
    return schema | ({"const": values[0]} if len(values) == 1 else {"enum": values})


def _nullable(schema: Json) -> Json:
    """The one alternative beside null, with null among its types."""
    (alternative,) = [one for one in schema.pop("anyOf") if one.get("type") != "null"]
    schema = alternative | schema
    return schema | ({NULLABLE: True} if "$ref" in schema else _or_null(schema))


def _or_null(schema: Json) -> Json:
    """The keywords by which a schema allows null, too."""
    return {"type": [schema["type"], "null"]} | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def _objects(part: Any) -> Iterator[Json]:
    """Every object in a part of the document."""
    if isinstance(part, Mapping):
        yield part  # type: ignore[misc]
    for one in part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ():
        yield from _objects(one)
