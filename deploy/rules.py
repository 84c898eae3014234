"""Writes the alert rules as the Prometheus Operator takes them: `python -m deploy.rules [--check]`.

They are those of deploy/monitoring/alerts.yaml: kustomize puts no file into a resource, and reads none
outside of its own folder.
"""

import sys
from pathlib import Path
from textwrap import indent
from typing import Final

RULES: Final = Path(__file__).parent / "monitoring" / "alerts.yaml"
FILE: Final = Path(__file__).parent / "kubernetes" / "components" / "monitoring" / "alerts.yaml"
HEAD: Final = """\
# Written by `python -m deploy.rules` from deploy/monitoring/alerts.yaml: change that, and write this again.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lensqueue
spec:
"""


def resource() -> str:
    """The whole of it."""
    return HEAD + indent(RULES.read_text(encoding="utf-8"), "  ")


def main(arguments: list[str]) -> int:
    """Write it; with `--check`, say whether it is as it would be written."""
    if arguments == ["--check"]:
        wrong = not FILE.exists() or FILE.read_text(encoding="utf-8") != resource()
        if wrong:
            sys.stderr.write(f"{FILE}: not as `python -m deploy.rules` writes it\n")
        return int(wrong)
    FILE.write_text(resource(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
