// SPDX-License-Identifier: BSD-3-Clause
// The LibTorch adapter: state_dict and load_state_dict of LibTorch's objects, and at::Tensor in a Value.
#pragma once

#include <torchkeep/torch/batches.h>
#include <torchkeep/torch/group_extras.h>
#include <torchkeep/torch/load_into.h>
#include <torchkeep/torch/lr_scheduler.h>
#include <torchkeep/torch/module.h>
#include <torchkeep/torch/optimizer.h>
#include <torchkeep/torch/report.h>
#include <torchkeep/torch/rng.h>
#include <torchkeep/torch/run.h>
#include <torchkeep/torch/tensor.h>
#include <torchkeep/torchkeep.h>
