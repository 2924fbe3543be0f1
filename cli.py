"""The launcher: `python cli.py …` is `attnstore …`, from a checkout that is not installed."""

from attnstore.commands import main

if __name__ == "__main__":
    main()
