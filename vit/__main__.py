"""`python -m vit COMMAND`: tools around the three scripts. `main` is also the console command `vit`."""
import sys

from vit import start


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    start.begin()  # before the first import that takes time
    from vit.cli import commands
    status = commands.main(arguments)
    start.ended()
    return status


if __name__ == "__main__":
    sys.exit(main())
