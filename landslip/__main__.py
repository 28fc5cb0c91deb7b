"""`python -m landslip`."""

from landslip.cli.main import main

if __name__ == "__main__":
    main()
