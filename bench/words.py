# SPDX-License-Identifier: BSD-3-Clause
"""How figures and sections are called in the report and in the picture."""

SECTIONS = {"saves": "Saving", "loads": "Loading (cached files)",
            "resumes": "Resuming into live model and optimizer (cached files)",
            "from_disk": "Files that are not in the page cache"}


def seconds(value):
    if abs(value) >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.0f} us"
