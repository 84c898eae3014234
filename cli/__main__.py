"""`lensqueue`, and `python -m cli`."""

import sys

INTERRUPTED = 130  # as `cli.ending` has it, which is slow to import


def main() -> None:
    """Run the command that is asked for; Ctrl-C ends it without a traceback, however early it comes."""
    try:
        from cli.main import app  # noqa: PLC0415 - it takes most of a second, and Ctrl-C may come meanwhile

        app(prog_name="lensqueue")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
