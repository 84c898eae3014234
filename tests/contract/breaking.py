"""What in an OpenAPI document would break clients of an older one, each change by its name.

`python -m tests.contract.breaking [BASE]` compares the snapshot with that of BASE, a commit: the last release
unless given, or else the commit before this one. Until there is a release, it only names what it finds.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from api.openapi import SNAPSHOT, operations

Document = Mapping[str, Any]
Schema = Mapping[str, Any]
ROOT = Path(__file__).resolve().parents[2]
BOUNDS = {"minimum": 1, "minLength": 1, "minItems": 1, "maximum": -1, "maxLength": -1, "maxItems": -1}
"""Keyword -> the sign of a change that makes it narrower."""


def breaks(before: Document, after: Document) -> list[str]:
    """Every change that a client of `before` could stumble over."""
    found = []
    now = {(path, method): operation for path, method, operation in operations(after)}
    for path, method, old in operations(before):
        where = f"{method.upper()} {path}"
        new = now.get((path, method))
        if new is None:
            found.append(f"{where}: the operation is gone")
            continue
        if new["operationId"] != old["operationId"]:
            found.append(f"{where}: operationId {old['operationId']} is now {new['operationId']}")
        found += _parameters(where, old, new, before, after)
        found += _request(where, old, new, before, after)
        found += _answers(where, old, new, before, after)
    return list(dict.fromkeys(found))


def _parameters(where: str, old: Schema, new: Schema, before: Document, after: Document) -> Iterator[str]:
    was, now = (
        {(each["in"], each["name"]): each for each in one.get("parameters", ())} for one in (old, new)
    )
    for (place, name), parameter in was.items():
        if (place, name) not in now:
            yield f"{where}: the {place} parameter {name} is gone"
            continue
        if now[place, name].get("required") and not parameter.get("required"):
            yield f"{where}: the {place} parameter {name} is now required"
        schemas = parameter["schema"], now[place, name]["schema"]
        yield from _taken(f"{where}: {place} parameter {name}", *schemas, before, after, ())
    for (place, name), parameter in now.items():
        if (place, name) not in was and parameter.get("required"):
            yield f"{where}: the {place} parameter {name} is new and required"


def _request(where: str, old: Schema, new: Schema, before: Document, after: Document) -> Iterator[str]:
    was, now = old.get("requestBody"), new.get("requestBody")
    if now and not was and now.get("required"):
        yield f"{where}: a body is now required"
    if not was:
        return
    for media_type, content in was["content"].items():
        taken = (now or {"content": {}})["content"].get(media_type)
        if taken is None:
            yield f"{where}: {media_type} is no longer taken"
            continue
        yield from _taken(f"{where}: request", content["schema"], taken["schema"], before, after, ())


def _answers(where: str, old: Schema, new: Schema, before: Document, after: Document) -> Iterator[str]:
    for status, answer in old["responses"].items():
        if status not in new["responses"]:
            yield f"{where}: the response {status} is gone"
            continue
        was, now = _resolved(answer, before), _resolved(new["responses"][status], after)
        for name in set(was.get("headers", ())) - set(now.get("headers", ())):
            yield f"{where}: the header {name} of {status} is gone"
        for media_type, content in was.get("content", {}).items():
            given = now.get("content", {}).get(media_type)
            if given is None:
                yield f"{where}: {status} no longer comes as {media_type}"
                continue
            schemas = content.get("schema", {}), given.get("schema", {})
            yield from _given(f"{where}: {status}", *schemas, before, after, ())


def _taken(
    where: str, was: Schema, now: Schema, before: Document, after: Document, seen: tuple[str, ...]
) -> Iterator[str]:
    """How what is taken became narrower."""
    if was.get("$ref", "") in seen:
        return
    seen = (*seen, was["$ref"]) if "$ref" in was else seen
    was, now = _resolved(was, before), _resolved(now, after)
    yield from _narrower(where, was, now)
    for name in set(now.get("required", ())) - set(was.get("required", ())):
        yield f"{where}: the property {name} is now required"
    for name, schema in was.get("properties", {}).items():
        if name in now.get("properties", {}):
            yield from _taken(f"{where}.{name}", schema, now["properties"][name], before, after, seen)
        elif now.get("additionalProperties") is False:
            yield f"{where}: the property {name} is no longer taken"
    yield from _inside(_taken, where, was, now, before, after, seen)
    if len(now.get("anyOf", now.get("oneOf", ()))) < len(was.get("anyOf", was.get("oneOf", ()))):
        yield f"{where}: there are fewer alternatives"


def _narrower(where: str, was: Schema, now: Schema) -> Iterator[str]:
    """What a value by itself may no longer be."""
    old_types, new_types = _types(was), _types(now)
    if old_types and new_types and not old_types <= new_types:
        yield f"{where}: the type {_said(old_types)} is now {_said(new_types)}"
    yield from _fewer(where, was, now)
    for keyword, sign in BOUNDS.items():
        if keyword in now and (keyword not in was or (now[keyword] - was[keyword]) * sign > 0):
            yield f"{where}: {keyword} is now {now[keyword]}"
    if now.get("pattern", was.get("pattern")) != was.get("pattern"):
        yield f"{where}: the pattern is now {now['pattern']}"


def _fewer(where: str, was: Schema, now: Schema) -> Iterator[str]:
    if "enum" not in now:
        return
    for value in was.get("enum", ()):
        if value not in now["enum"]:
            yield f"{where}: the value {value!r} is no longer taken"
    if "enum" not in was and "const" not in was:
        yield f"{where}: only some values are taken now"


def _given(
    where: str, was: Schema, now: Schema, before: Document, after: Document, seen: tuple[str, ...]
) -> Iterator[str]:
    """How what is answered is no longer what was promised."""
    if was.get("$ref", "") in seen:
        return
    seen = (*seen, was["$ref"]) if "$ref" in was else seen
    was, now = _resolved(was, before), _resolved(now, after)
    old_types, new_types = _types(was), _types(now)
    if old_types and not (new_types and new_types <= old_types):
        yield f"{where}: the type {_said(old_types)} is now {_said(new_types)}"
    for name in set(was.get("required", ())) - set(now.get("required", ())):
        yield f"{where}: the property {name} may be absent now"
    for name, schema in was.get("properties", {}).items():
        if name in now.get("properties", {}):
            yield from _given(f"{where}.{name}", schema, now["properties"][name], before, after, seen)
        else:
            yield f"{where}: the property {name} is gone"
    if "enum" in was:
        for value in now.get("enum", ()):
            if value not in was["enum"]:
                yield f"{where}: the value {value!r} is new"
    yield from _inside(_given, where, was, now, before, after, seen)


def _inside(compare: Any, where: str, was: Schema, now: Schema, *rest: Any) -> Iterator[str]:
    if "items" in was and "items" in now:
        yield from compare(f"{where}[]", was["items"], now["items"], *rest)
    for keyword in ("anyOf", "oneOf", "allOf"):
        for old, new in zip(was.get(keyword, ()), now.get(keyword, ()), strict=False):
            yield from compare(where, old, new, *rest)


def _types(schema: Schema) -> frozenset[str]:
    """The types that a value may have; none known where alternatives say it."""
    said = schema.get("type", ())
    return frozenset([said] if isinstance(said, str) else said)


def _said(types: frozenset[str]) -> str:
    return "/".join(sorted(types)) or "unsaid"


def _resolved(part: Schema, document: Document) -> Schema:
    if "$ref" not in part:
        return part
    found: Any = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: Schema = found
    return resolved


def _main(base: str | None) -> int:
    release = _git("describe", "--tags", "--abbrev=0")
    base = base or release or "HEAD~1"
    kept = _git("show", f"{base}:{SNAPSHOT.relative_to(ROOT)}")
    if kept is None:
        print(f"There is no document at {base} to compare with.")  # noqa: T201 - a command's answer
        return 0
    found = breaks(json.loads(kept), json.loads(SNAPSHOT.read_text()))
    for each in found:
        print(f"breaks clients of {base}: {each}")  # noqa: T201 - likewise
    return 1 if found and base == release else 0


def _git(*arguments: str) -> str | None:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607 - whichever git there is
    return asked.stdout.strip() if asked.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1] if len(sys.argv) > 1 else None))
