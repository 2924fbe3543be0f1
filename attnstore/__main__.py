"""`python -m attnstore …` is `attnstore …`."""

from attnstore.commands import main

if __name__ == "__main__":
    main()
