"""`python -m codechunk`."""

from codechunk.cli import main

main()
