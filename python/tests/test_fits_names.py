# SPDX-License-Identifier: BSD-3-Clause
"""Whose state it is: parameters are matched by name, by the order of the model's keys, or by order."""
import itertools

import pytest
import torch
from canonical import describe
from fits import loaded, net, resumed, saved, stepped
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import torchkeep


def compiled_inside():
    model = net()
    model[0] = torch.compile(model[0], backend="eager")
    return model


def checkpointed_inside():
    model = net()
    model[0] = checkpoint_wrapper(model[0])
    return model


def parallel_inside():
    model = net()
    model[0] = torch.nn.DataParallel(model[0])
    return model


WRAPPED = [net, compiled_inside, checkpointed_inside, parallel_inside,
           lambda: torch.compile(compiled_inside(), backend="eager"), lambda: torch.nn.DataParallel(net())]


@pytest.mark.parametrize("there", range(len(WRAPPED)))
def test_names_do_not_depend_on_what_wraps_a_part_of_the_model(there, tmp_path):
    model = WRAPPED[there]()
    optimizer = stepped(model)
    path = saved(tmp_path, model=model, optimizer=optimizer)
    plain = torchkeep.load(path)
    assert list(plain["model"]) == list(net().state_dict())
    assert plain["optimizer"]["param_names"] == [[f"model.{name}" for name, _ in net().named_parameters()]]
    net().load_state_dict(plain["model"])
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "torch.pt")
    for make in WRAPPED:
        for file in (path, tmp_path / "torch.pt"):
            other = make()
            adam = torch.optim.Adam(other.parameters())
            assert loaded(file, model=other, optimizer=adam) == []
            assert describe([*other.state_dict().values()]) == describe([*model.state_dict().values()])
            assert describe(adam.state_dict()["state"]) == describe(optimizer.state_dict()["state"])


def test_a_file_of_a_run_leaves_a_program_of_pytorch_alone_free_to_add_groups(tmp_path):
    model = net()
    optimizer = torch.optim.Adam(model[2].parameters())
    path = saved(tmp_path, model=model, optimizer=optimizer)
    again = torch.optim.Adam(model[2].parameters())
    again.load_state_dict(torch.load(path, weights_only=True)["optimizer"])
    again.add_param_group({"params": list(model[0].parameters())})
    assert "param_names" not in again.param_groups[0]


def reordered(order):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3) for name in order})
    for scale, name in enumerate("abc"):
        model[name].scale = scale + 1.0
    model.forward = lambda x: sum(model[name](x * model[name].scale) for name in order)
    return model


def moments(model, optimizer):
    return {name: describe(optimizer.state[parameter]["exp_avg"]) for name, parameter in model.named_parameters()}


NAMED = {
    "names that PyTorch gave on both sides": (lambda m: m.named_parameters(), lambda m: m.named_parameters()),
    "names that PyTorch gave in the file": (lambda m: m.named_parameters(), lambda m: m.parameters()),
    "the model's keys in the file": (lambda m: m.parameters(), lambda m: m.parameters()),
    "the model's keys, and names here": (lambda m: m.parameters(), lambda m: m.named_parameters()),
}


@pytest.mark.parametrize("name", NAMED)
def test_state_goes_to_the_parameter_of_its_name_whatever_the_order(name, tmp_path):
    there, here = NAMED[name]
    model = reordered("abc")
    optimizer = torch.optim.Adam(there(model))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    other = reordered("cab")
    adam = torch.optim.Adam(here(other))
    assert loaded(tmp_path / "a.pt", model=other, optimizer=adam) == []
    assert moments(other, adam) == moments(model, optimizer)
    assert ("param_names" in adam.param_groups[0]) == ("named" in here.__code__.co_names[0])


def test_names_in_the_groups_of_an_older_file_are_read(tmp_path):
    model = reordered("abc")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"][0]["param_names"] = [f"model.{name}" for name, _ in model.named_parameters()]
    torchkeep.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "a.pt")
    other = reordered("bca")
    adam = torch.optim.Adam(other.parameters())
    assert loaded(tmp_path / "a.pt", model=other, optimizer=adam) == []
    assert moments(other, adam) == moments(model, optimizer)
    adam.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})


def test_by_order_is_said_once(tmp_path):
    model = net()
    torchkeep.save({"optimizer": stepped(model).state_dict()}, tmp_path / "a.pt")
    told = loaded(tmp_path / "a.pt", optimizer=torch.optim.Adam(net().parameters()))
    assert len(told) == 1 and "order of the parameters" in told[0]


class Averages(torch.optim.SGD):
    """A key that nobody knows, with the shape of its parameter."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("average", parameter.detach().clone())


def test_state_that_is_another_parameters_is_an_error(tmp_path):
    first = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3), (4,))]
    optimizer = Averages(first, lr=0.1)
    for parameter in first:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torchkeep.save({"optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    other = Averages(reversed(first), lr=0.1)
    with pytest.raises(torchkeep.Error, match=r"average is float32 \[2, 3\] in the file, \[4\] here"):
        loaded(tmp_path / "a.pt", optimizer=other)


class Part(torch.nn.Module):
    """A body that it may share, and a head of its own."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.head = torch.nn.Linear(4, 2)


def shared():
    """Actor and critic over one body, which is tracked by itself too; the optimizer has them in an order of its own."""
    torch.manual_seed(0)
    body = torch.nn.Linear(3, 4)
    parts = {"body": body, "actor": Part(body), "critic": Part(body)}
    order = [*parts["critic"].head.parameters(), *body.parameters(), *parts["actor"].head.parameters()]
    return {**parts, "optimizer": torch.optim.Adam(order, lr=0.1)}


def step_shared(body, actor, critic, optimizer):
    (actor.head(body(torch.ones(1, 3))) + critic.head(body(torch.ones(1, 3))).square()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_order_in_which_modules_with_shared_parameters_are_tracked_does_not_matter(tmp_path):
    orders = list(itertools.permutations(shared()))
    objects = shared()
    step_shared(**objects)
    for number, order in enumerate(orders[::5]):
        path = saved(tmp_path / str(number), **{name: objects[name] for name in order})
        for other in orders[::3]:
            for load in (loaded, resumed):
                again = shared()
                here = {name: again[name] for name in other}
                assert load(path if load is loaded else tmp_path / str(number), **here) == []
                for name in objects:
                    assert describe(again[name].state_dict()) == describe(objects[name].state_dict())


def test_a_shared_parameter_is_known_by_any_of_its_names(tmp_path):
    body, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
    model = torch.nn.ModuleDict({"first": body, "again": body, "head": head})
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    content["optimizer"]["param_names"] = [["model.head.weight", "model.head.bias", "model.again.weight", "model.again.bias"]]
    content["optimizer"]["param_groups"][0]["params"] = [2, 3, 0, 1]
    torchkeep.save(content, tmp_path / "a.pt")
    adam = torch.optim.Adam(model.parameters())
    assert loaded(tmp_path / "a.pt", model=model, optimizer=adam) == []
    assert describe(adam.state_dict()["state"]) == describe(optimizer.state_dict()["state"])


def test_names_of_two_parameters_are_not_names_of_one(tmp_path):
    tied = torch.nn.Linear(3, 3)
    apart = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    path = saved(tmp_path, model=apart, optimizer=torch.optim.Adam(apart.parameters()))
    model = torch.nn.ModuleDict({"a": tied, "b": tied})
    with pytest.raises(torchkeep.Error, match="model.b.weight"):
        loaded(path, optimizer=torch.optim.Adam(model.parameters()), model=model)
