# SPDX-License-Identifier: BSD-3-Clause
"""`python -m torchkeep`: the program torchkeep that was installed with the package."""
import os
import sys
import sysconfig


def main():
    program = os.path.join(sysconfig.get_path("scripts"), "torchkeep")
    if not os.path.exists(program):
        sys.exit(f"torchkeep: the program is not at {program}")
    os.execv(program, ["torchkeep", *sys.argv[1:]])


if __name__ == "__main__":
    main()
