"""What tests of image sets over HTTP share: making, filling, sealing and reading them."""

import json
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from jobs.blobs import SENTINEL
from tests.conftest import SAMPLES

HERE = "/v1/image-sets"
OTHER = (SAMPLES / "scene-00001.jpg").read_bytes()
NOBODYS_SET, NOBODYS_VERSION = f"ims_{'0' * 32}", f"isv_{'0' * 32}"


def make(api: TestClient, **headers: str) -> str:
    answer = api.post(HERE, json={"name": "shapes"}, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def upload(api: TestClient, data: bytes) -> str:
    return str(api.post("/v1/images", files={"images": data}).json()["items"][0]["id"])


def add(api: TestClient, set_id: str, *items: dict[str, Any]) -> Any:
    return api.post(f"{HERE}/{set_id}/items", json={"items": list(items)})


def send(api: TestClient, set_id: str, *files: tuple[str, bytes], said: Any = None) -> Any:
    parts: list[Any] = [("images", (name, data, "image/jpeg")) for name, data in files]
    if said is not None:
        parts.append(("items", (None, json.dumps(said))))
    return api.post(f"{HERE}/{set_id}/items", files=parts)


def seal(api: TestClient, set_id: str) -> Any:
    answer = api.post(f"{HERE}/{set_id}/seal")
    assert answer.status_code == 200, answer.text
    return answer.json()


def items_of(api: TestClient, version_id: str, **query: Any) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/image-set-versions/{version_id}/items", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def small(settings: ApiSettings, key: str, **update: Any) -> TestClient:
    return TestClient(
        create_app(settings.model_copy(update=update)), headers={"Authorization": f"Bearer {key}"}
    )


def files_of(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file() and path.name != SENTINEL]


def operations(set_id: str, version_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Everything that can be asked of a set."""
    version = f"/v1/image-set-versions/{version_id}"
    named = {"items": [{"image_id": f"img_{'0' * 32}"}]}
    return [
        ("GET", f"{HERE}/{set_id}", {}),
        ("PATCH", f"{HERE}/{set_id}", {"json": {"name": "mine"}}),
        ("POST", f"{HERE}/{set_id}/items", {"json": named}),
        ("POST", f"{HERE}/{set_id}/items", {"files": {"images": OTHER}}),
        ("POST", f"{HERE}/{set_id}/seal", {}),
        ("GET", f"{HERE}/{set_id}/versions/1", {}),
        ("GET", version, {}),
        ("GET", f"{version}/items", {}),
        ("GET", f"{version}/manifest", {}),
        ("DELETE", f"{HERE}/{set_id}", {}),
    ]
