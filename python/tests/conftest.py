# SPDX-License-Identifier: BSD-3-Clause
"""The project's own helpers: canonical.describe says everything about an object that two equal ones must share."""
import pathlib
import sys
import warnings

import torch

torch.set_num_threads(1)  # tiny tensors, and other tests beside these
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))
warnings.filterwarnings("ignore", module="torch")
