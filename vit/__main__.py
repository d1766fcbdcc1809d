"""`python -m vit COMMAND`: tools around the three scripts. `main` is also the console command `vit`."""
import sys

from vit.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
