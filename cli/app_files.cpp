// SPDX-License-Identifier: BSD-3-Clause
// The verbs for files, with their options and examples.
#include "builder.h"

namespace torchkeep::cli {
namespace {

constexpr const char* kFile = "Checkpoint, DCP folder, run directory (its newest), or - for standard input";

void describe_ls(Builder& builder) {
  auto [sub, options] =
      builder.verb<LsOptions>("ls", "List tensors and values of a checkpoint, or the checkpoints of a run", run_ls);
  builder.argument(sub, "PATH", options->paths, "Checkpoint, DCP folder, run directory, or - for standard input")
      ->required();
  builder.choose(sub->add_option("-s,--sort", options->sort, "Order of the rows; none: as in the file"),
                 {"none", "path", "size", "type"});
  sub->add_flag("-r,--reverse", options->reverse, "Reverse the order");
  builder.repeated(sub, "-f,--filter", options->filters, "GLOB",
                   "Only paths that fit this pattern (*, ?, [a-z]); may be repeated");
  sub->add_option("-d,--depth", options->depth, "Sum up what lies deeper than this many steps")->type_name("N");
  sub->add_flag("-t,--tensors", options->tensors_only, "Only tensors");
  sub->add_flag("--values", options->values_only, "Only what is no tensor");
  sub->add_flag("--names", options->names, "Only paths, one a line");
  sub->add_flag("-w,--wide", options->wide, "Strides, storage and flags of tensors too");
  sub->add_flag("--inspect", options->inspect, "Open files that name functions only attacks use, too (none is called)");
  sub->footer(
      "Examples:\n  torchkeep ls checkpoint.pt\n  torchkeep ls --sort size --filter 'model*.weight' checkpoint.pt\n"
      "  torchkeep ls runs/shakespeare");
}

void describe_show(Builder& builder) {
  auto [sub, options] =
      builder.verb<ShowOptions>("show", "Show the tree of a checkpoint, or one tensor or value of it", run_show);
  builder.argument(sub, "FILE", options->path, kFile)->required();
  builder.argument(sub, "KEY", options->key, "Path of a part, as `torchkeep ls` names it; none: all");
  sub->add_option("-d,--depth", options->depth, "Show no deeper than this many steps")->type_name("N");
  builder.choose(
      sub->add_option("--hash", options->hash, "Add the hash of the whole; with --json, of every tensor too"),
      {"sha256"});
  sub->add_flag("--statistics", options->statistics, "With --json: add statistics to every tensor");
  sub->add_option("--bins", options->bins, "Bins of the histogram; 0: none")->type_name("N")->capture_default_str();
  sub->add_option("-n,--numbers", options->numbers, "Print all numbers of a tensor that has no more than this")
      ->type_name("N");
  sub->add_flag("--inspect", options->inspect, "Open files that name functions only attacks use, too (none is called)");
  sub->footer(
      "Examples:\n  torchkeep show checkpoint.pt\n  torchkeep show checkpoint.pt optimizer_state_dict.param_groups\n"
      "  torchkeep show --json --hash sha256 checkpoint.pt");
}

void describe_verify(Builder& builder) {
  auto [sub, options] = builder.verb<VerifyOptions>(
      "verify", "Check every byte of checkpoints and runs; exit status 1 on damage", run_verify);
  builder.argument(sub, "PATH", options->paths, "Checkpoints, DCP folders, run directories, or - for standard input")
      ->required();
  sub->add_option("--repair", options->repair,
                  "Write what survives of one damaged or cut off checkpoint to this file, and list what is lost")
      ->type_name("OUT");
  sub->add_flag("-f,--force", options->force, "Replace OUT if it exists");
  sub->add_option("-j,--threads", options->threads, "Threads; 0: one per core")->type_name("N")->capture_default_str();
  sub->footer(
      "Examples:\n  torchkeep verify checkpoint.pt\n  torchkeep verify runs/*\n"
      "  torchkeep verify broken.pt --repair saved.pt");
}

void describe_diff(Builder& builder) {
  auto [sub, options] =
      builder.verb<DiffCommand>("diff", "Compare two checkpoints bit by bit; exit status 1 if they differ", run_diff);
  builder.argument(sub, "A", options->a, kFile)->required();
  builder.argument(sub, "B", options->b, "The other")->required();
  sub->add_flag("--content-only", options->content_only,
                "Leave out flags, strides, devices, shared memory, the order of keys, kinds of dicts and lists");
  sub->add_flag("--with-provenance", options->with_provenance, "Count the top key 'provenance' (host, time) too");
  builder.repeated(sub, "-i,--ignore", options->ignore, "GLOB",
                   "Leave out paths that fit this pattern; may be repeated");
  sub->add_option("--limit", options->limit, "Places shown for each key at the top; 0: all")
      ->type_name("N")
      ->capture_default_str();
  sub->add_option("-j,--threads", options->threads, "Threads; 0: one per core")->type_name("N")->capture_default_str();
  sub->footer(
      "Examples:\n  torchkeep diff before.pt after.pt\n  torchkeep diff --ignore 'optimizer*' a.pt b.pt\n"
      "  torchkeep diff --content-only model.pt model.safetensors");
}

void describe_convert(Builder& builder) {
  auto [sub, options] = builder.verb<ConvertOptions>(
      "convert", "Write a checkpoint in another format, with other dtypes or names, or a part of it", run_convert);
  builder.argument(sub, "IN", options->input, kFile)->required();
  builder
      .argument(
          sub, "OUT", options->output,
          "What to write: NAME.safetensors, a folder of torch.distributed.checkpoint (NAME/), or a .pt file under "
          "any other name; - with --to")
      ->required();
  builder.choose(sub->add_option("--to", options->to, "Format of OUT, whatever its name"),
                 {"pt", "safetensors", "folder"});
  builder.repeated(sub, "--only", options->only, "KEY",
                   "Only this part; it becomes the whole of OUT. Repeated: all these parts where they are");
  sub->add_option("--dtype", options->dtype,
                  "Convert the floating-point tensors of the model: bf16, fp16, fp32, fp64, fp8_e4m3, fp8_e5m2")
      ->type_name("DTYPE");
  sub->add_option("--max-shard-size", options->max_shard_size,
                  "Tensors in each file of NAME/ with --to safetensors, which gets an index: 5GB, 500MB, 2GiB")
      ->type_name("SIZE")
      ->capture_default_str();
  builder.repeated(sub, "--strip-prefix", options->strip_prefixes, "PREFIX",
                   "Take this off the front of parameter names (module., _orig_mod.); may be repeated");
  builder.repeated(sub, "--rename", options->renamings, "OLD=NEW",
                   "Parameter names that begin with OLD begin with NEW instead; may be repeated");
  builder.repeated(sub, "--metadata", options->metadata, "NAME=TEXT",
                   "Metadata of a safetensors file; an empty TEXT takes it away; may be repeated");
  sub->add_flag("--strict", options->strict, "Fail if OUT cannot hold everything");
  sub->add_flag("--drop-objects", options->drop_objects, "Leave out objects that PyTorch's safe loader refuses");
  sub->add_flag("--flatten-modules", options->flatten_modules,
                "Turn whole pickled modules into state dicts with PyTorch's names");
  sub->add_flag("-f,--force", options->force, "Replace OUT if it exists");
  sub->footer(
      "Examples:\n  torchkeep convert checkpoint.pt model.safetensors --only model_state_dict --dtype bf16\n"
      "  torchkeep convert model.safetensors model.pt\n"
      "  torchkeep convert checkpoint.pt step-400/\n"
      "  torchkeep convert step-400 hub/ --to safetensors --only model --max-shard-size 2GB\n"
      "  torchkeep convert yolo.pt yolo.safetensors --only model --flatten-modules\n"
      "  torchkeep convert agent.zip::policy.pth policy.safetensors\n  torchkeep convert ddp.pt plain.pt "
      "--strip-prefix module.");
}

void describe_extract(Builder& builder) {
  auto [sub, options] = builder.verb<ExtractOptions>("extract", "Write one tensor as a NumPy file", run_extract);
  builder.argument(sub, "FILE", options->path, kFile)->required();
  builder.argument(sub, "KEY", options->key, "Path of the tensor, as `torchkeep ls` names it")->required();
  sub->add_option("-o,--output", options->output, "File to write, or - for standard output")
      ->required()
      ->type_name("OUT.npy");
  sub->add_flag("--raw", options->raw_bits,
                "Keep the bits of dtypes that NumPy lacks (as unsigned integers) instead of widening to float32");
  sub->add_flag("-f,--force", options->force, "Replace the file if it exists");
  sub->footer("Example:\n  torchkeep extract checkpoint.pt model_state_dict.fc.weight -o weight.npy");
}

}  // namespace

void describe_file_verbs(Builder& builder) {
  describe_ls(builder);
  describe_show(builder);
  describe_verify(builder);
  describe_diff(builder);
  describe_convert(builder);
  describe_extract(builder);
}

}  // namespace torchkeep::cli
