"""`python -m landslip`."""

from landslip.cli import main

if __name__ == "__main__":
    main()
