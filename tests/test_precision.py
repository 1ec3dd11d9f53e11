"""bfloat16 is computed in where the hardware has units for it, and nowhere else."""

import pytest
import torch

from pgpt_lib import backbones, precision
from pgpt_lib.config import load_profile

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
FLAGS = {
    "an AVX2 processor": ({"avx2": True, "avx512_bf16": False, "amx_bf16": False, "num_sockets": 1}, "fp32"),
    "AVX-512 without bf16": ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
    "AVX-512 with bf16": ({"avx512_f": True, "avx512_bf16": True}, "bf16"),
    "AMX": ({"amx_bf16": True}, "bf16"),
    "ARM with bf16": ({"neon": True, "bf16": True}, "bf16"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_bf16_where_the_processor_has_units_for_it(name, monkeypatch):
    flags, expected = FLAGS[name]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert precision.usable_precision("bf16", CPU) == expected
    assert precision.usable_precision("fp32", CPU) == "fp32"
    assert precision.usable_precision("bf16", CARD) == "bf16"
    assert precision.in_usable_precision(load_profile("cpu"), CPU).training.precision == expected


def test_this_processor_says_what_it_has():
    assert any("avx" in name or "neon" in name for name in torch.cpu.get_capabilities())


@pytest.mark.parametrize("has", [True, False])
def test_a_tower_is_loaded_in_what_is_usable(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    tower = backbones.load_vision("nano-vit", 112, "bf16")
    assert tower.precision == ("bf16" if has else "fp32")
    kinds = {module.weight.dtype for module in tower.model.modules() if isinstance(module, torch.nn.Linear)}
    assert kinds == ({torch.bfloat16} if has else {torch.float32})
