// SPDX-License-Identifier: BSD-3-Clause
// The core of torchkeep, all that needs no LibTorch: Value, save, load, learning rate schedulers, sample order, the
// checkpoints of a run, Error.
#pragma once

#include <torchkeep/base/error.h>
#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/data/sampler.h>
#include <torchkeep/run/checkpoints.h>
#include <torchkeep/schedule/lr_scheduler.h>
#include <torchkeep/state/value.h>
