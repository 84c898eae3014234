"""The settings that all processes share."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from jobs.settings import DatabaseSettings

URL = "postgresql+psycopg://lensqueue@postgres/lensqueue"


def test_the_password_of_the_database_is_read_from_a_file_whatever_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd %41\n")
    settings = DatabaseSettings(database_url=URL, database_password_file=file)
    url = make_url(settings.database_url)
    assert (url.password, url.host, url.username) == ("p@ss/w:rd %41", "postgres", "lensqueue")


def test_the_password_of_the_file_goes_before_that_of_the_url(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("new")
    with_another = URL.replace("lensqueue@", "lensqueue:old@")
    settings = DatabaseSettings(database_url=with_another, database_password_file=file)
    assert make_url(settings.database_url).password == "new"


def test_a_url_without_a_file_stays_as_it_is() -> None:
    assert DatabaseSettings(database_url=URL).database_url == URL


def test_a_password_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"its password cannot be read: .*No such file"):
        DatabaseSettings(database_url=URL, database_password_file=tmp_path / "absent")


def test_what_is_no_url_is_refused_without_being_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("new")
    with pytest.raises(ValidationError, match="it is no URL"):
        DatabaseSettings(database_url="no url", database_password_file=file)
