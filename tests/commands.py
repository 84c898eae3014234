"""A command run in the process of the test: to start another one and import the program takes seconds.

For what a command refuses; what it does is seen where it is a process, as a person's is.
"""

import os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess
from unittest.mock import patch

from cli.main import app


def run_here(*arguments: str, **env: str) -> CompletedProcess[str]:
    """What the command prints and ends with, with nothing else of `LENSQUEUE_` in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LENSQUEUE_")}
    out, err, status = StringIO(), StringIO(), 0
    with patch.dict(os.environ, {**kept, **env}, clear=True), redirect_stdout(out), redirect_stderr(err):
        try:
            app(list(arguments), prog_name="lensqueue")
        except SystemExit as ended:
            status = int(ended.code or 0)
    return CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
