"""Lock what CI installs: `make lock`. Reads pip's report of an installation and prints a requirement file with hashes.

The hashes are those of the files that pip chose, so the lock is good for CI's platform. torch is left out: its build
differs between machines. A version that its makers have withdrawn is refused.
"""

import json
import sys

LEFT_OUT = {"landslip", "torch"}


def main() -> None:
    """Print `name==version --hash=sha256:...` for every distribution of the report on standard input."""
    found = [one for one in json.load(sys.stdin)["install"] if one["metadata"]["name"] not in LEFT_OUT]
    withdrawn = [one["metadata"]["name"] for one in found if one.get("is_yanked")]
    if withdrawn:
        sys.exit(f"withdrawn by their makers: {', '.join(withdrawn)}; raise them in constraints.txt")
    for one in sorted(found, key=lambda one: one["metadata"]["name"].lower()):
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        print(f"{name}=={version} --hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}")


if __name__ == "__main__":
    main()
