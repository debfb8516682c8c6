"""`python -m spillover` is the command `spillover`."""

from spillover.cli.main import main

if __name__ == "__main__":
    main()
