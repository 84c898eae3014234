"""Pictures that are sent once and named in jobs, through the real service."""

from tests.acceptance.conftest import RunningService
from tests.conftest import SAMPLES
from tests.ledger import assert_settled

NAMES = [f"scene-{number:05}.jpg" for number in range(3)]


def test_a_job_that_names_images_finds_what_a_job_with_the_files_finds(service: RunningService) -> None:
    pictures = [(name, (SAMPLES / name).read_bytes()) for name in NAMES]
    files = [("images", (name, data, "image/jpeg")) for name, data in pictures]
    sent = service.client.post("/v1/images", files=files).raise_for_status().json()["items"]
    named = [{"image_id": image["id"], "custom_id": image["filename"]} for image in sent]
    by_id = service.finish(service.submit({"type": "embedding", "input": {"images": named}}))
    by_file = service.finish(service.submit({"type": "embedding"}, pictures))
    assert by_id["state"] == by_file["state"] == "succeeded"
    assert service.items(by_id) == service.items(by_file)
    assert [item["image_id"] for item in service.items(by_id)] == [image["id"] for image in sent]
    assert service.client.delete(f"/v1/images/{sent[0]['id']}").status_code == 409
    assert_settled(service.sessions)
