# SPDX-License-Identifier: BSD-3-Clause
"""Modules, tensors and generators between C++ and Python."""
import pytest
import torch
from torch import nn

from exchange import load, raw, same, tool

ZOO = {
    "linear": nn.Linear(3, 2),
    "linear_without_bias": nn.Linear(3, 2, bias=False),
    "bilinear": nn.Bilinear(2, 3, 4),
    "conv": nn.Conv2d(2, 4, 3, groups=2),
    "conv_transpose": nn.ConvTranspose1d(2, 4, 3),
    "embedding": nn.Embedding(5, 3),
    "embedding_bag": nn.EmbeddingBag(5, 3),
    "prelu": nn.PReLU(),
    "layer_norm": nn.LayerNorm(3),
    "group_norm": nn.GroupNorm(2, 4),
    "batch_norm": nn.BatchNorm2d(3),
    "batch_norm_plain": nn.BatchNorm1d(3, affine=False, track_running_stats=False),
    "instance_norm": nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "instance_norm_plain": nn.InstanceNorm3d(3),
    "lstm": nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
    "gru": nn.GRU(3, 4, bias=False),
    "rnn_cell": nn.RNNCell(3, 4),
    "attention": nn.MultiheadAttention(4, 2),
    "attention_of_three": nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True),
    "transformer": nn.Transformer(4, 2, 1, 2, dim_feedforward=8),
    "sequential": nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Dropout()),
    "module_list": nn.ModuleList([nn.Linear(2, 2), nn.PReLU()]),
    "parameter_list": nn.ParameterList([torch.ones(2), torch.zeros(1, 3)]),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo")
    tool("zoo", path / "cpp.pt")
    torch.save({name: module.state_dict() for name, module in ZOO.items()}, path / "py.pt")
    tool("read_zoo", path / "py.pt", path / "back.pt")
    return {name: load(path / f"{name}.pt") for name in ("cpp", "py", "back")}


@pytest.mark.parametrize("name", ZOO)
def test_names_and_order_are_pythons(zoo, name):
    assert list(zoo["cpp"][name]) == list(ZOO[name].state_dict())
    assert type(zoo["cpp"][name]) is type(ZOO[name].state_dict())


@pytest.mark.parametrize("name", ZOO)
def test_the_metadata_names_the_same_modules_and_versions(zoo, name):
    ours, pythons = zoo["cpp"][name]._metadata, ZOO[name].state_dict()._metadata
    assert list(ours) == list(pythons)
    assert ours == pythons


@pytest.mark.parametrize("name", ZOO)
def test_python_loads_them_strictly_and_keeps_every_bit(zoo, name):
    module = ZOO[name]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.load_state_dict(zoo["cpp"][name], strict=True)
    for key, value in module.state_dict().items():
        assert raw(value) == raw(zoo["cpp"][name][key]), key
    module.load_state_dict(before)


@pytest.mark.parametrize("name", ZOO)
def test_cpp_loads_pythons_and_keeps_every_bit(zoo, name):
    same(zoo["back"][name], zoo["py"][name])


def test_live_tensors_reach_python(tmp_path):
    tool("tensors", tmp_path / "tensors.pt")
    tensors = load(tmp_path / "tensors.pt")
    base = torch.arange(24.0).view(4, 6)
    same(tensors["base"], base)
    same(tensors["view"], base[1:3].t())
    assert tensors["view"].untyped_storage().data_ptr() == tensors["base"].untyped_storage().data_ptr()
    same(tensors["expanded"], torch.ones(1, 3).expand(5, 3))
    same(tensors["scalar"], torch.tensor(2.5, dtype=torch.float64))
    same(tensors["empty"], torch.empty(0, 4))
    assert tensors["conj"].is_conj() and tensors["conj"].tolist() == [1 - 2j, 1 - 2j]
    assert tensors["requires_grad"].requires_grad
    assert raw(tensors["nan"]) == bytes.fromhex("2301a07f")
    kinds = [name for name in tensors if hasattr(torch, name) and isinstance(getattr(torch, name), torch.dtype)]
    assert len(kinds) == 27, kinds
    for name in kinds:
        tensor = tensors[name]
        assert tensor.dtype is getattr(torch, name) and tensor.shape == (2, 1) and tensor.storage_offset() == 1
        size = tensor.element_size()
        assert bytes(tensor.untyped_storage())[size:3 * size] == bytes(range(size, 3 * size))


def test_pythons_tensors_reach_libtorch_and_stay_shared(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    tensors = {"base": base, "row": base[2], "column": base[:, 1], "half": torch.ones(3, dtype=torch.float16),
               "nan": torch.tensor([0x7FA00123], dtype=torch.int32).view(torch.float32), "empty": torch.empty(2, 0),
               "grad": torch.ones(2, requires_grad=True), "conj": torch.tensor([1 + 2j]).conj()}
    torch.save(tensors, tmp_path / "py.pt")
    tool("copy", tmp_path / "py.pt", tmp_path / "cpp.pt")
    back = load(tmp_path / "cpp.pt")
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        same(back[name], tensor, name)
        assert back[name].storage_offset() == tensor.storage_offset(), name
    assert back["row"].untyped_storage().data_ptr() == back["base"].untyped_storage().data_ptr()


def test_a_generator_continues_in_the_other_language(tmp_path):
    tool("rng", tmp_path / "cpp.pt")
    state = load(tmp_path / "cpp.pt")
    torch.set_rng_state(state["rng"]["torch"])
    assert raw(torch.randn(20)) == raw(state["next"])
    torch.randn(5)
    torch.save({"torch": torch.get_rng_state()}, tmp_path / "py.pt")
    tool("read_rng", tmp_path / "py.pt", tmp_path / "back.pt")
    assert raw(torch.randn(20)) == raw(load(tmp_path / "back.pt")["next"])
