"""Who may call the API."""

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Timestamp, Uuid7Key


class ApiKey(Base):
    """A key of a tenant; only its SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[Timestamp | None]
