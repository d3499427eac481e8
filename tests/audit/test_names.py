"""Names of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradlab.audit.recording import names


def test_a_parameter_is_named_as_its_model_names_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
            self.extra = [nn.Linear(1, 1)]
            self.scales = {"one": nn.Parameter(torch.ones(1))}

    net, alone = Net(), nn.Parameter(torch.ones(2, 3))
    known = dict(net.named_parameters())
    named = names.parameters_of([*known.values(), net.extra[0].bias, net.scales["one"], alone])
    assert [each.name for each in named] == [
        *(f"{name} of Net" for name in known), "extra[0].bias of Net", "scales['one'] of Net", "",
    ]  # fmt: skip
    assert [each.unseen for each in named][4:] == ["extra", "scales", ""]
    assert str(named[-1]) == "parameter of shape (2, 3)"


def test_a_module_in_a_list_and_registered_is_seen_by_its_model() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [nn.Linear(1, 1)]
            self.first = self.blocks[0]

    net = Net()
    (named,) = names.parameters_of([net.first.weight])
    assert (named.name, named.unseen) == ("first.weight of Net", "")


def test_a_network_in_an_object_is_named_by_its_attribute() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.net = nn.Sequential(nn.Linear(2, 1))

    trainer = Trainer()
    alone = nn.Sequential(nn.Linear(2, 1))
    named = names.parameters_of([trainer.net.get_parameter("0.weight"), alone.get_parameter("0.bias")])
    assert [each.name for each in named] == ["0.weight of Trainer.net (Sequential)", "0.bias of Sequential"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ({"__name__": "__main__"}, "0.bias of net (Sequential)"),  # a notebook
        ({"__name__": "train", "__file__": "/home/me/train.py"}, "0.bias of net (Sequential)"),
        ({"__name__": "torch.nn", "__file__": nn.__file__}, "0.bias of Sequential"),
        ({"net_of": "a dict of networks"}, "0.bias of Sequential"),
    ],
)
def test_a_network_in_a_global_variable_is_named_by_it(module: dict[str, object], name: str) -> None:
    exec("from torch import nn\n_latest = net = nn.Sequential(nn.Linear(2, 1))\nsame = net", module)  # noqa: S102
    net = module["net"]
    assert isinstance(net, nn.Module)
    (named,) = names.parameters_of([net.get_parameter("0.bias")])
    assert named.name == name
