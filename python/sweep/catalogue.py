# SPDX-License-Identifier: BSD-3-Clause
"""Every optimizer and scheduler of the packages of the sweep, found by looking into them, each in several configurations."""
import dataclasses
import importlib
import importlib.util
import inspect
import sys
import types
import typing

import torch


@dataclasses.dataclass(frozen=True)
class Case:
    """One training. `make(model)` gives (optimizer, scheduler or None); `models` are tried in this order, and the ways to
    step (training.WAYS) after this one."""

    name: str
    make: typing.Callable
    models: tuple = ("Net", "Matrices", "Table", "Wide")
    dtype: torch.dtype | None = None
    way: str = "closure"


# ---- arguments, by their names

def _split(model):
    parameters = [one for one in model.parameters() if one.requires_grad]
    return parameters[::2], parameters[1::2]


_NEEDED = {  # what a constructor cannot do without
    "params": lambda model: list(model.parameters()),
    "model": lambda model: model,
    "optimizer": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
    "base": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "base_optimizer": lambda model: torch.optim.SGD,
    "num_data": lambda model: 64,
    "num_iterations": lambda model: 20,
    "lr": lambda model: 0.01,
}
_NOT_FLAGS = {"verbose", "debug", "compile", "compile_step", "differentiable"}
_NONE_IS_A_FLAG = {"foreach", "fused"}


def _parameters_of(kind):
    """The constructor's parameters by name, those of its bases too where it hands **kwargs on."""
    found = {}
    for one in inspect.getmro(kind):
        if "__init__" not in vars(one):
            continue
        signature = inspect.signature(one.__init__).parameters
        found.update({name: value for name, value in signature.items() if name not in found and name != "self"})
        if not any(value.kind == value.VAR_KEYWORD for value in signature.values()):
            break
    return {name: value for name, value in found.items() if value.kind in (value.POSITIONAL_OR_KEYWORD, value.KEYWORD_ONLY)}


def _made(kind, model, **options):
    parameters = _parameters_of(kind)
    options = {name: value for name, value in options.items() if name in parameters}
    arguments = {name: _NEEDED[name](model) for name, value in parameters.items()
                 if value.default is value.empty and name in _NEEDED}
    if "lr" in parameters and parameters["lr"].default not in (1, None):  # 1: it finds its learning rate itself
        arguments["lr"] = 0.01
    return kind(**{**arguments, **{name: value(model) if callable(value) else value for name, value in options.items()}})


def _groups(kind):
    """Two groups with options of their own."""
    own = [name for name in ("lr", "weight_decay") if name in _parameters_of(kind)]

    def make(model):
        first, second = _split(model)
        return [{"params": first, **dict(zip(own, (0.02, 0.1)))}, {"params": second}]

    return make


def _muon_groups(model):
    """What optimizers ask for that treat matrices in another way than the rest."""
    parameters = list(model.parameters())
    return [{"params": [one for one in parameters if one.dim() >= 2], "use_muon": True},
            {"params": [one for one in parameters if one.dim() < 2], "use_muon": False}]


def _reads(kind, option):
    """Whether the class's own methods name this option of a group."""
    return any(option in one.__code__.co_consts for one in map(inspect.unwrap, filter(inspect.isfunction, vars(kind).values())))


def _flags(kind):
    """One configuration per option that is on or off, and one with momentum where that is off."""
    for name, value in _parameters_of(kind).items():
        if name in _NOT_FLAGS or name.startswith("no_"):
            continue
        if isinstance(value.default, bool):
            yield f"{name}={not value.default}", {name: not value.default}
        elif value.default is None and name in _NONE_IS_A_FLAG:
            yield f"{name}=True", {name: True}
        elif name == "momentum" and value.default == 0:
            yield "momentum=0.9", {name: 0.9}


def _configurations(package, name, kind, always):
    """The cases of one class of optimizers."""
    if _reads(kind, "use_muon"):
        always = {**always, "params": _muon_groups}

    def case(configuration, options, **more):
        return Case(f"{package}: {name}({configuration})",
                    lambda model: (_made(kind, model, **{**always, **options}), None),
                    way="both" if name.endswith("SAM") else "closure", **more)

    yield case("", {})
    if "params" in _parameters_of(kind) and "params" not in always:
        yield case("groups", {"params": _groups(kind)})
    yield case("bfloat16", {}, dtype=torch.bfloat16)
    yield case("odd shapes", {}, models=("Odd", "Conv"))
    yield case("a late part", {}, models=("Late",))
    for flag, options in _flags(kind):
        yield case(flag, options)
    if package == "torch.optim":
        yield case("named", {"params": lambda model: list(model.named_parameters())})
        yield case("lr a tensor", {"lr": lambda model: torch.tensor(0.01)})
        yield from (case(f"{flag}, groups", {**options, "params": _groups(kind)}) for flag, options in _flags(kind))
        if name == "LBFGS":
            yield case("strong Wolfe", {"line_search_fn": "strong_wolfe", "history_size": 4})
        if name == "SGD":
            yield case("nesterov", {"momentum": 0.9, "nesterov": True})
        if name == "RMSprop":
            yield case("momentum, centered", {"momentum": 0.9, "centered": True})
        if name == "ASGD":
            yield case("averaging", {"t0": 3})


def _optimizers(package, module, base=torch.optim.Optimizer, skip=(), **always):
    """The cases of a module's classes; `always` has options for those that have them."""
    kinds = [(name, getattr(module, name)) for name in sorted(dir(module))]
    for name, kind in kinds:
        if (inspect.isclass(kind) and issubclass(kind, base) and name not in skip
                and kind.__module__.split(".")[0] == module.__name__.split(".")[0]):
            yield from _configurations(package, name, kind, always)


# ---- packages of optimizers

def _torch_optim():
    return _optimizers("torch.optim", torch.optim, skip={"Optimizer"})


def _pytorch_optimizer():
    module = importlib.import_module("pytorch_optimizer")
    yield from _optimizers("pytorch_optimizer", module, skip={"BaseOptimizer", "WSAM", "GSAM"})
    yield Case("pytorch_optimizer: WSAM()", way="both", make=lambda model: (
        module.WSAM(model, model.parameters(), torch.optim.SGD, lr=0.01), None))
    yield Case("pytorch_optimizer: GSAM()", lambda model: (_gsam(module, model), None))
    for base in ("SGD", "AdamW", "Adagrad"):
        kind = getattr(torch.optim, base)
        yield Case(f"pytorch_optimizer: SAM({base})",
                   lambda model, kind=kind: (module.SAM(model.parameters(), kind, lr=0.01), None), way="both")
        yield Case(f"pytorch_optimizer: Lookahead({base})",
                   lambda model, kind=kind: (module.Lookahead(kind(model.parameters(), lr=0.01)), None))


def _gsam(module, model):
    base = torch.optim.SGD(model.parameters(), lr=0.01)
    rates = module.LinearScheduler(base, t_max=20, max_lr=0.01)
    return module.GSAM(model.parameters(), base, model, module.ProportionScheduler(rates, max_lr=0.01))


def _timm_optim():
    optim = _timm_module("optim")
    for name in optim.list_optimizers(exclude_filters=["bnb*", "fused*"]):  # bitsandbytes and Apex want CUDA here
        def make(model, name=name, **options):
            return optim.create_optimizer_v2(list(model.parameters()), opt=name, lr=0.01, weight_decay=0.05, **options), None

        kind = optim.get_optimizer_class(name, bind_defaults=False)
        yield Case(f"timm.optim: {name}()", make)
        yield Case(f"timm.optim: {name}(bfloat16)", make, dtype=torch.bfloat16)
        yield Case(f"timm.optim: {name}(odd shapes)", make, models=("Odd", "Conv"))
        yield Case(f"timm.optim: lookahead_{name}()", lambda model, name=name: make(model, f"lookahead_{name}"))
        for flag, options in _flags(kind):
            yield Case(f"timm.optim: {name}({flag})", lambda model, make=make, options=options: make(model, **options))


def _timm_module(name):
    """A part of timm. Its package imports torchvision, which goes with few builds of torch, and its optimizers need
    nothing of it: without torchvision the part is imported alone."""
    try:
        return importlib.import_module(f"timm.{name}")
    except (ImportError, RuntimeError):
        for one in [one for one in sys.modules if one.split(".")[0] in ("timm", "torchvision")]:
            del sys.modules[one]
    package = types.ModuleType("timm")
    package.__path__ = list(importlib.util.find_spec("timm").submodule_search_locations)
    models = types.ModuleType("timm.models")
    models.group_parameters = None  # for layer decay, which is of the models
    sys.modules.update({"timm": package, "timm.models": models})
    return importlib.import_module(f"timm.{name}")


def _heavyball():
    module = importlib.import_module("heavyball")
    importlib.import_module("heavyball.utils").compile_mode = None  # the compiler takes minutes and changes no state
    yield from _optimizers("heavyball", module, skip={"SplitOpt"})
    yield Case("heavyball: SplitOpt(AdamW, Muon)", lambda model: (module.SplitOpt([
        {"params": _split(model)[0], "optimizer": module.Muon, "lr": 0.01},
        {"params": _split(model)[1], "optimizer": module.AdamW, "lr": 0.01}]), None))


def _schedulefree():
    module = importlib.import_module("schedulefree")
    return _optimizers("schedulefree", module, base=object)


def _torch_optimizer():
    module = importlib.import_module("torch_optimizer")
    yield from _optimizers("torch-optimizer", module, skip={"Optimizer"})
    for name in ("RAdam", "Yogi", "DiffGrad"):
        yield Case(f"torch-optimizer: Lookahead({name})", lambda model, name=name: (
            module.Lookahead(getattr(module, name)(model.parameters(), lr=0.01)), None))


def _bitsandbytes():
    module = importlib.import_module("bitsandbytes.optim")
    for case in _optimizers("bitsandbytes", module, skip={"GlobalOptimManager"}, momentum=0.9):
        yield dataclasses.replace(case, models=("Wide", *case.models))


# ---- schedulers

_SCHEDULER_NEEDS = {
    "T_max": 10, "T_0": 3, "step_size": 2, "milestones": [2, 5], "lr_lambda": lambda step: 1 / (1 + step), "gamma": 0.9,
    "base_lr": 0.001, "max_lr": 0.05, "total_steps": 20, "swa_lr": 0.05, "num_warmup_steps": 3, "num_training_steps": 12,
    "num_decay_steps": 4, "t_initial": 6, "min_lr": 0.001, "lr_max": 0.05,
}


class Table:
    """A function with state of its own, for LambdaLR, which saves that."""

    def __init__(self):
        self.factor = 0.9

    def __call__(self, step):
        return self.factor**step


def _optimizers_to_schedule():
    def groups(model):
        first, second = _split(model)
        return torch.optim.AdamW([{"params": first, "lr": 0.02}, {"params": second}], lr=0.01)

    return {"SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
            "AdamW, groups": groups,
            "SGD, lr a tensor": lambda model: torch.optim.SGD(model.parameters(), lr=torch.tensor(0.01), momentum=0.9)}


def _scheduled(package, name, make):
    for optimizer, make_optimizer in _optimizers_to_schedule().items():
        def objects(model, make_optimizer=make_optimizer):
            made = make_optimizer(model)
            return made, make(made)

        yield Case(f"{package}: {name} over {optimizer}", objects, models=("Net",))


def _scheduler_configurations(package, name, function, optional=()):
    """A scheduler's class or function: as it is, and with each flag and each of the options that it has turned."""
    parameters = {key: value for key, value in inspect.signature(function).parameters.items()
                  if value.kind in (value.POSITIONAL_OR_KEYWORD, value.KEYWORD_ONLY)}
    needed = {key: _SCHEDULER_NEEDS[key] for key, value in parameters.items()
              if key in _SCHEDULER_NEEDS and (value.default is value.empty or key == "total_steps")}
    variants = {"": {}}
    for key, value in parameters.items():
        if isinstance(value.default, bool) and key not in ("verbose", "initialize"):
            variants[f"{key}={not value.default}"] = {key: not value.default}
    variants.update({label: options for label, options in optional if options.keys() <= parameters.keys()})
    for label, options in variants.items():
        yield from _scheduled(package, f"{name}({label})",
                              lambda optimizer, options=options: function(optimizer, **{**needed, **options}))


def _torch_schedulers():
    module = torch.optim.lr_scheduler
    bases = {"LRScheduler", "_LRScheduler", "SequentialLR", "ChainedScheduler"}
    options = (("mode triangular2", {"base_lr": 0.001, "max_lr": 0.05, "mode": "triangular2"}),
               ("mode exp_range", {"base_lr": 0.001, "max_lr": 0.05, "mode": "exp_range", "gamma": 0.9}),
               ("anneal linear", {"max_lr": 0.05, "anneal_strategy": "linear"}), ("T_mult", {"T_0": 2, "T_mult": 2}),
               ("patience 0", {"patience": 0, "cooldown": 1, "threshold": 0.5}),
               ("a function with state", {"lr_lambda": Table()}))
    for name, kind in sorted(vars(module).items()):
        if (inspect.isclass(kind) and name not in bases
                and issubclass(kind, (module.LRScheduler, module.ReduceLROnPlateau))):
            yield from _scheduler_configurations("torch.optim.lr_scheduler", name, kind, options)
    yield from _scheduler_configurations("torch.optim.lr_scheduler", "SWALR", torch.optim.swa_utils.SWALR)
    yield from _nested_schedulers(module)


def _nested_schedulers(module):
    def sequential(*parts, at):
        return lambda optimizer: module.SequentialLR(optimizer, [part(optimizer) for part in parts], at)

    def warm(optimizer):
        return module.LinearLR(optimizer, 0.1, total_iters=3)

    def cosine(optimizer):
        return module.CosineAnnealingLR(optimizer, 5)

    def falling(optimizer):
        return module.ExponentialLR(optimizer, 0.9)

    nested = {
        "SequentialLR(2)": sequential(warm, cosine, at=[3]),
        "SequentialLR(3)": sequential(warm, falling, cosine, at=[3, 9]),
        "ChainedScheduler": lambda optimizer: module.ChainedScheduler([warm(optimizer), falling(optimizer)], optimizer),
        "ChainedScheduler(SequentialLR)": lambda optimizer: module.ChainedScheduler(
            [falling(optimizer), sequential(warm, cosine, at=[3])(optimizer)], optimizer),
    }
    for name, make in nested.items():
        yield from _scheduled("torch.optim.lr_scheduler", name, make)


def _timm_schedulers():
    module = _timm_module("scheduler")
    base = importlib.import_module("timm.scheduler.scheduler").Scheduler
    options = (("warmup", {"warmup_t": 3, "warmup_lr_init": 0.001}), ("noise", {"noise_range_t": (1, 11)}),
               ("noise, per update", {"noise_range_t": (1, 11), "t_in_epochs": False}),
               ("cycles", {"t_initial": 3, "cycle_limit": 4, "cycle_mul": 2.0, "cycle_decay": 0.5}),
               ("patience", {"patience_t": 1, "decay_rate": 0.5}), ("noise, binomial", {"noise_range_t": 2, "noise_type": "binomial"}))
    for name, kind in sorted(vars(module).items()):
        if inspect.isclass(kind) and issubclass(kind, base):
            decay = [2, 5] if "Multi" in name else 2

            def make(optimizer, kind=kind, **own):
                return kind(optimizer, **own)

            make.__signature__ = inspect.signature(kind)
            needed = {"decay_t": decay} if "decay_t" in make.__signature__.parameters else {}
            yield from _scheduler_configurations(
                "timm.scheduler", name, _with(make, needed), options)


def _with(function, needed):
    """The function with some of its arguments given, and the signature that is left."""
    def given(*arguments, **own):
        return function(*arguments, **{**needed, **own})

    signature = inspect.signature(function)
    given.__signature__ = signature.replace(parameters=[one for key, one in signature.parameters.items() if key not in needed])
    return given


def _transformers_schedulers():
    module = importlib.import_module("transformers.optimization")
    options = (("min_lr", {"min_lr": 0.001, "min_lr_rate": None}), ("cycles", {"num_cycles": 2}), ("power 2", {"power": 2.0}),
               ("timescale", {"timescale": 5}), ("warm-up rate", {"warmup_lr_rate": 0.2, "min_lr_rate": 0.1}),
               ("linear decay", {"num_decay_steps": 4, "num_stable_steps": 3, "decay_type": "linear"}))
    for kind, function in module.TYPE_TO_SCHEDULER_FUNCTION.items():
        needs = {"min_lr_rate": 0.1} if "min_lr" in kind.value else {}
        if kind.value == "warmup_stable_decay":
            needs = {"num_training_steps": 12}
        yield from _scheduler_configurations("transformers", kind.value, _with(function, needs), options)
    yield from _scheduler_configurations("transformers", "GreedyLR", module.GreedyLR, (
        ("quick", {"patience": 0, "cooldown": 1, "warmup": 1, "window_size": 3, "smooth": True, "reset_start": 5}),))
    yield Case("transformers: AdafactorSchedule", lambda model: _adafactor(module, model), models=("Net",))
    yield from (Case(f"transformers: Adafactor({label})", lambda model, own=own: (module.Adafactor(
        model.parameters(), **own), None)) for label, own in {
            "": {}, "beta1": {"beta1": 0.9}, "lr": {"lr": 0.01, "relative_step": False, "scale_parameter": False}}.items())


def _adafactor(module, model):
    optimizer = module.Adafactor(model.parameters())
    return optimizer, module.AdafactorSchedule(optimizer)


PACKAGES = {
    "torch.optim": _torch_optim, "pytorch_optimizer": _pytorch_optimizer, "timm.optim": _timm_optim,
    "heavyball": _heavyball, "schedulefree": _schedulefree, "torch-optimizer": _torch_optimizer,
    "bitsandbytes": _bitsandbytes, "torch.optim.lr_scheduler": _torch_schedulers, "timm.scheduler": _timm_schedulers,
    "transformers": _transformers_schedulers,
}


def cases(package):
    """The cases of a package. Raises ImportError where it is not installed."""
    return list(PACKAGES[package]())
