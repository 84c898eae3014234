"""Takes from a CycloneDX document what is no fact of a package: where an index would have it, by guess.

cyclonedx-py requirements constraints.txt --output-format JSON | python -m deploy.sbom
"""

import json
import sys


def main() -> None:
    """From stdin to stdout."""
    document = json.load(sys.stdin)
    for component in document["components"]:
        component.pop("externalReferences", None)
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
