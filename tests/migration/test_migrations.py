"""The schema goes up, down and up again, and is what the tables say."""

import json
import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from engine.catalog import Catalog
from models import schema
from models.set_vector import INDEXED_WIDTHS
from models.tables import metadata


def test_migrations_go_up_down_and_up(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    schema.upgrade(empty_database_url)
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    schema.downgrade(empty_database_url, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    schema.upgrade(empty_database_url)
    with engine.connect() as connection:
        assert connection.scalar(schema.applied()) == schema.head()
    engine.dispose()


def test_jobs_of_before_refer_to_their_images_and_can_still_be_run(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    schema.upgrade(empty_database_url, "0001")
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    items = [{"kind": "image", "image_id": id_} for id_ in (first, second, first)]
    with engine.begin() as connection:
        job = connection.scalar(
            text("""INSERT INTO jobs (tenant, type, model, options, total)
                    VALUES ('a', 'logit_lens', 'm', '{"labels": ["x"]}', 4) RETURNING id""")
        )
        for unit, held in enumerate((items, [{"kind": "text", "text": "a ring"}])):
            connection.execute(
                text(
                    "INSERT INTO job_inputs (job_id, unit, items) VALUES (:job, :unit, CAST(:items AS jsonb))"
                ),
                {"job": job, "unit": unit, "items": json.dumps(held)},
            )
    schema.upgrade(empty_database_url)
    with engine.connect() as connection:
        found = connection.scalars(text("SELECT image_ids FROM job_inputs ORDER BY unit")).all()
        options = connection.scalar(text("SELECT options FROM jobs"))
    assert [sorted(map(str, ids)) for ids in found] == [sorted({first, second}), []]
    assert options == {
        "labels": ["x"],
        "outputs": ["pooled"],
        "layers": "all",
        "patch_layers": None,
        "patch_method": "head",
    }
    schema.downgrade(empty_database_url, "0001")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM job_inputs")) == 2
    engine.dispose()


def test_work_of_before_shares_no_pass(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    schema.upgrade(empty_database_url, "0002")
    with engine.begin() as connection:
        for tenant in ("a", "b"):
            job = connection.scalar(
                text("""INSERT INTO jobs (tenant, type, model, options, total)
                        VALUES (:tenant, 'logit_lens', 'm', '{"labels": ["x"]}', 1) RETURNING id"""),
                {"tenant": tenant},
            )
            connection.execute(
                text("INSERT INTO work (job_id, unit, model, items) VALUES (:job, 0, 'm', 1)"), {"job": job}
            )
    schema.upgrade(empty_database_url)
    with engine.connect() as connection:
        keys = connection.scalars(text("SELECT batch_key FROM work")).all()
    assert len(set(keys) - {""}) == 2
    engine.dispose()


def test_a_database_without_pgvector_is_told_what_to_do_and_left_as_it_was(bare_database_url: str) -> None:
    engine = create_engine(bare_database_url)
    schema.upgrade(bare_database_url, "0005")
    with pytest.raises(schema.NotFitError, match="have a superuser run `CREATE EXTENSION vector`"):
        schema.upgrade(bare_database_url)
    with engine.connect() as connection:
        assert connection.scalar(schema.applied()) == "0005"
    engine.dispose()


def test_vectors_of_every_supported_checkpoint_have_an_index(database_url: str) -> None:
    sizes = [Catalog().find(name).dimensions for name in Catalog().names()]
    assert {size.hidden_size for size in sizes if size} == set(INDEXED_WIDTHS)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        found = connection.scalars(
            text("SELECT indexdef FROM pg_indexes WHERE tablename = 'set_vectors' AND indexdef LIKE '%hnsw%'")
        ).all()
    engine.dispose()
    assert len(found) == len(INDEXED_WIDTHS)
    for width in INDEXED_WIDTHS:
        [of_width] = [each for each in found if f"halfvec({width})" in each]
        assert f"(width = {width})" in of_width


def test_tables_and_migrations_agree(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_checks_in_the_database_are_those_of_the_tables(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        found = set(connection.scalars(text("SELECT conname FROM pg_constraint WHERE contype = 'c'")))
    engine.dispose()
    declared = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if constraint.__visit_name__ == "check_constraint"
    }
    assert declared <= found
