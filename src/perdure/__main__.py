"""`python -m perdure`: the command line, for where the `perdure` command is not on the search path.

May live here: the call. May not: anything else.
"""

from perdure.cli import main

if __name__ == "__main__":
    main()
