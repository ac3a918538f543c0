"""``python -m helixplan``"""

from helixplan.cli import main

if __name__ == "__main__":
    main()
