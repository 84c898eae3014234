"""`python -m cli` is `lensqueue`."""

from cli.main import app

app(prog_name="lensqueue")
