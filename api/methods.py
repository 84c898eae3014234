"""Which methods a path takes, over all of its routes: the framework names only the first one's."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def allowed(app: FastAPI, path: str) -> list[str]:
    """The methods of a path, in the order of the alphabet; none where nothing is."""
    return sorted(set(_methods(app, path)))


def _methods(app: FastAPI, path: str) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.methods and compile_path(route.path)[0].match(path):
            yield from route.methods
