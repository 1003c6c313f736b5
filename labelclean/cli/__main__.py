"""`python -m labelclean.cli`, where the script is not on the path."""

from labelclean.cli.entry import main

if __name__ == "__main__":
    main()
