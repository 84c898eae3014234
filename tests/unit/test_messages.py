"""What receivers of webhooks are sent, as the Standard Webhooks package of others reads it."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.messages import headers_of, new_secret, verification

MESSAGE = uuid.uuid4()


def test_a_message_verifies_with_each_of_its_secrets_and_with_no_other() -> None:
    new, old = new_secret(), new_secret()
    body = verification(uuid.uuid4(), "ünï", datetime.now(UTC))
    headers = headers_of(MESSAGE, body, [new, old], datetime.now(UTC))
    assert headers["webhook-id"] == f"msg_{MESSAGE.hex}"
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


def test_another_body_or_id_does_not_verify() -> None:
    secret = new_secret()
    headers = headers_of(MESSAGE, b'{"a":1}', [secret], datetime.now(UTC))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a":2}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a":1}', {**headers, "webhook-id": "msg_other"})


@pytest.mark.parametrize(("age_seconds", "fresh"), [(0, True), (290, True), (301, False)])
def test_an_old_stamp_is_refused(age_seconds: int, fresh: bool) -> None:
    secret = new_secret()
    headers = headers_of(MESSAGE, b"{}", [secret], datetime.now(UTC) - timedelta(seconds=age_seconds))
    if fresh:
        Webhook(secret).verify(b"{}", headers)
    else:
        with pytest.raises(WebhookVerificationError, match="too old"):
            Webhook(secret).verify(b"{}", headers)


def test_secrets_hold_32_random_bytes() -> None:
    assert new_secret() != new_secret()
    assert len(new_secret()) == len("whsec_") + 44
