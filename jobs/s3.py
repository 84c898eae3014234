"""Objects of S3 under a prefix, as members: listed by their keys, each read when it is wanted.

Only what the operator allows is read: whoever may submit would otherwise read whatever the service may.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from jobs.errors import S3NotAllowedError, S3RefusedError, TooManyMembersError
from jobs.members import ArchiveLimits, Budget, Member, MemberError, check_name, check_size, quoted

URL: Final = re.compile("s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
MAX_KEY: Final = 1_024
GONE: Final = frozenset({"NoSuchKey", "404", "InvalidObjectState"})
"""Of an object that was listed: it is there no more, or is laid away."""
REFUSED: Final = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "NoSuchBucket",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
    }
)
"""What trying again does not change."""
TIMEOUTS: Final = {"connect_timeout": 5, "read_timeout": 20}
"""In seconds; less than a heartbeat waits for progress, with the tries that follow."""


@dataclass(frozen=True, slots=True)
class S3Prefix:
    """The keys of a bucket that begin so."""

    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """As it is written."""
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A member with its key, and the one that comes last before it: behind either a listing may go on."""

    member: Member
    key: str
    before: str


def parse_prefix(url: str, allowed: Sequence[str]) -> S3Prefix:
    """The prefix that a URL names; `allowed` are beginnings of URLs, each to a slash.

    Raises:
        S3NotAllowedError: it is no such URL, or begins with none of these.
    """
    found = URL.fullmatch(url)
    if found is None or len(found[2] or "") > MAX_KEY:
        raise S3NotAllowedError("A prefix is written as s3://bucket/folder/.")
    wanted = S3Prefix(found[1], found[2] or "")
    if not any(wanted.url.startswith(f"{each.rstrip('/')}/") for each in allowed):
        raise S3NotAllowedError
    return wanted


def connect(endpoint_url: str | None) -> Any:
    """A client of S3, or of another service that speaks as it does; who it is, the AWS variables say.

    Raises:
        S3NotAllowedError: the extra `s3` is not installed here.
    """
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415 - likewise
    except ImportError:
        raise S3NotAllowedError("This worker was installed without its extra `s3`.") from None
    config = Config(**TIMEOUTS, retries={"max_attempts": 2, "mode": "standard"})
    return boto3.client("s3", endpoint_url=endpoint_url, config=config)


def read_prefix(
    client: Any, prefix: S3Prefix, limits: ArchiveLimits, *, place: int = 0, after: str = ""
) -> Iterator[Listed]:
    """The objects under a prefix by their keys behind `after`, numbered from `place`, a page at a time.

    Names are what a key has more than the prefix up to its last slash.

    Raises:
        S3RefusedError: there is no such bucket, or it is not for this service.
        TooManyMembersError, ArchiveTooLargeError: there is more of it than may be.
    """
    from botocore.exceptions import (  # noqa: PLC0415 - an extra
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    cut, budget = prefix.prefix.rfind("/") + 1, Budget(limits)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=prefix.bucket, Prefix=prefix.prefix, StartAfter=after
    )
    try:
        for page in pages:
            for entry in page.get("Contents", ()):
                key, size = str(entry["Key"]), int(entry["Size"])
                if place >= limits.members:
                    raise TooManyMembersError(
                        f"There are more than {limits.members} objects under this prefix."
                    )
                if not key.endswith("/"):
                    member = _member(client, prefix.bucket, key, size, limits, place, key[cut:], budget)
                    yield Listed(member, key, after)
                place, after = place + 1, key
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code not in REFUSED:
            raise
        raise S3RefusedError(f"{prefix.url} is not for this service to read: {code}.") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise S3RefusedError("This worker does not know who it is at S3.") from None


def _member(
    client: Any,
    bucket: str,
    key: str,
    size: int,
    limits: ArchiveLimits,
    place: int,
    name: str,
    budget: Budget,
) -> Member:
    try:
        check_name(name, limits)
        check_size(name, size, None, limits)
    except MemberError as error:
        return Member(place, name, partial(_refuse, error))
    budget.spend(size)
    return Member(place, name, partial(_read, client, bucket, key, name, limits.member_bytes))


def _read(client: Any, bucket: str, key: str, name: str, most: int) -> bytes:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - an extra

    try:
        with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            data: bytes = body.read(most + 1)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code not in GONE | REFUSED:
            raise
        raise MemberError("member-missing", f"{quoted(name)} cannot be read: {code}.") from None
    if len(data) > most:
        raise MemberError("member-too-large", f"{quoted(name)} has grown to more than {most} bytes.")
    return data


def _refuse(error: MemberError) -> bytes:
    raise error
