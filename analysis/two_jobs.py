"""What a comparison and a drift have in common: two jobs over image sets, read and told as files."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from analysis.sets.facts import SetFacts
from analysis.sets.reading import read_facts
from analysis.sets.schema_part import Part
from jobs.blobs import BlobStore
from jobs.files import keep_files, made_file
from jobs.objects import ObjectName
from jobs.set_tables import check_kept, read_sources, sources_of
from jobs.tables import read_thumbnails
from models.image_set import ImageSet, ImageSetVersion
from models.job import Job

REPORT: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where jobs lie; `step` is called now and then, and may raise to end what is done."""

    sessions: sessionmaker[Session]
    blobs: BlobStore
    step: Callable[[], None] = lambda: None

    def read(self, job: Job, scratch: Path, seed: int) -> SetFacts:
        """What a job found; `scratch` is made, and outlives the facts.

        Raises:
            NothingToSummariseError: nothing of the job succeeded.
            ResultsExpiredError, NumbersMissingError: results of the job were removed.
        """
        scratch.mkdir()
        return read_facts(self.sessions, self.blobs, job, scratch, self.step, seed)

    def thumbnails(self, job: Job, indexes: Iterable[int]) -> Mapping[int, bytes]:
        """Thumbnails of items of a job, by index, as far as they were kept.

        Raises:
            ResultsExpiredError: results of the job, or of a retry of it, were removed meanwhile.
        """
        with self.sessions() as session:
            sources = sources_of(session, job)
        found = read_thumbnails(read_sources(self.blobs, job.tenant, sources), indexes)
        self.step()
        with self.sessions() as session:
            check_kept(session, sources)
        return found

    def title(self, version_id: uuid.UUID | None) -> str:
        """What people call the set of a version, with the version's number."""
        with self.sessions() as session:
            version = session.get(ImageSetVersion, version_id)
            image_set = version and session.get(ImageSet, version.set_id)
        return f"{image_set.name}, version {version.number}" if version and image_set else "An image set"

    def keep(
        self, name: ObjectName, folder: Path, documents: Mapping[str, Part], page: str
    ) -> dict[str, Any]:
        """Write the documents and the page into a folder and keep them; returns what the payload says.

        Raises:
            BlobStoreFullError: the disk or its quota is full.
        """
        folder.mkdir()
        files = []
        for each, document in documents.items():
            (folder / each).write_text(document.model_dump_json(indent=1), encoding="utf-8")
            files.append(made_file(folder / each, "application/json"))
        # what a file system took for a name need not be a text: lone surrogates are written as references
        (folder / REPORT).write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
        files.append(made_file(folder / REPORT, "text/html"))
        self.step()
        return keep_files(self.blobs, name, files)
