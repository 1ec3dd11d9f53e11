"""Figures, diagrams and views: what they draw, and that they do so without a screen."""

from __future__ import annotations

import json
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from pgpt_lib import diagrams, plots, widgets
from pgpt_lib.data.refshapes.levels import COLOURS
from pgpt_lib.data.sample import Turn
from pgpt_lib.errors import InputError
from pgpt_lib.regions import Region, mask_to_rle

IMAGE = np.full((40, 60, 3), 200, np.uint8)
MASK = np.zeros((40, 60), np.uint8)
MASK[10:20, 30:45] = 1
REGION = Region((0.5, 0.25, 0.75, 0.5), mask_to_rle(MASK))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax) -> str:
    return " ".join([*(text.get_text() for text in ax.texts), ax.get_title(loc="left"), ax.get_title()])


def test_regions_lie_in_the_pixels_of_the_picture():
    ax = plots.draw_regions(IMAGE, [REGION], ["it"])
    assert ax.patches[0].get_bbox().extents.tolist() == [30, 10, 45, 20]
    assert "it" in texts(ax)


def test_a_region_leaves_its_object_the_colour_it_is_named_by():
    """No tint moves a colour of RefShapes as far as to the next one."""
    named = np.array([*COLOURS.values()], float)
    apart = np.abs(named[:, None] - named).sum(2)
    next_one = np.where(apart > 0, apart, np.inf).min(1)
    for color in plots.PALETTE:
        ax = plots.draw_regions(IMAGE, [REGION], colors=[color])
        *tinted, alpha = ax.images[1].get_array()[15, 35]
        assert (alpha * np.abs(named - 255 * np.array(tinted)).sum(1) < next_one).all()


@pytest.mark.parametrize(
    ("regions", "labels", "message"),
    [
        ([REGION], ["a", "b"], "2 labels for 1 regions"),
        ([Region(None, mask_to_rle(MASK[:5]))], None, "mask of region 0"),
    ],
)
def test_regions_that_do_not_fit_are_named(regions, labels, message):
    with pytest.raises(InputError, match=message):
        plots.draw_regions(IMAGE, regions, labels)


def test_layers_side_by_side():
    ax = plots.show_layers({"LLM": torch.tensor([0.2, 0.8]), "masks": [0.5, 0.5]})
    assert [round(bar.get_height(), 3) for bar in ax.patches] == [0.2, 0.8, 0.5, 0.5]


def test_learning_curves_read_logs_and_reach_into_records(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        "".join(json.dumps({"step": s, "losses": {"box": 1 / s}}) + "\n" for s in (1, 2)) + '{"step": 3, "lo'
    )
    fig = plots.learning_curves({"run": path}, ["losses.box"], smooth=0.5)
    assert fig.axes[0].lines[0].get_ydata().tolist() == [1, 0.5]
    assert len({ax.get_subplotspec().colspan.start for ax in plots.learning_curves({"": path}, ["step"] * 7).axes}) == 4
    path.write_text('{"step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2"):
        plots.read_log(path)


def test_exponential_mean_is_not_pulled_to_zero():
    assert plots.exponential_mean(np.full(5, 3.0), 0.9) == pytest.approx(3.0)


def test_landscape_marks_where_the_gradient_is_zero():
    ax = plots.landscape(lambda x, y: x.clamp(min=0) + 0 * y, (-1, 1), (-1, 1), arrows=4)
    dots = ax.lines[0].get_xdata()
    assert len(dots) == 8 and (np.asarray(dots) < 0).all()


def test_feature_image_shares_its_colours():
    features = torch.randn(16, 8)
    first, basis = plots.feature_image(features)
    again, _ = plots.feature_image(features, basis)
    assert first.shape == (4, 4, 3) and np.allclose(first, again)
    with pytest.raises(InputError, match="no square"):
        plots.feature_image(torch.randn(17, 8))


def test_ink_is_readable_on_every_colour():
    assert plots.ink("#F0E442") == "black" and plots.ink("#0072B2") == "white"


def test_token_strip_folds_image_slots_only():
    ax = diagrams.token_strip(["<image>"] * 64 + ["a", "a", "<vis>"], ["image"] * 64 + ["text", "text", "vis"])
    words = [text.get_text() for text in ax.texts if text.get_text()]
    assert words == ["<image> ×64", "a", "a", "<vis>"]


def test_dialogue_panels_number_regions_through_a_dialogue():
    turns = [Turn("user", "what is <vis> ?", (REGION,)), Turn("assistant", "a box beside <vis>", (REGION,))]
    fig = diagrams.dialogue_panels([(IMAGE, turns)])
    assert "a box beside [2]" in texts(fig.axes[1]) and "what is [1] ?" in texts(fig.axes[1])


def test_answer_turns_drop_surplus_regions():
    turns = diagrams.region_turns("where ?", "<vis>", [REGION, REGION])
    assert turns[1].regions == (REGION,)


def test_model_diagram_shows_what_is_trained():
    fusion = nn.Linear(1, 1)
    fusion.weights = lambda: torch.ones(3) / 3
    llm = nn.Linear(4, 4).requires_grad_(False)
    signals = nn.ModuleDict({"box": nn.Linear(4, 4), "mask": nn.Linear(4, 2)})
    signals["mask"].uses_features = True
    model = SimpleNamespace(tower=None, fusion=fusion, projector=nn.Linear(2, 4), llm=llm, signals=signals)
    parts = diagrams.model_parts(model)
    assert parts["llm"].trainable == 0 and parts["box"].trainable == parts["box"].parameters == 20
    words = texts(diagrams.model_diagram(model))
    assert "frozen" in words and "look at the picture again (mask)" in words


def test_views_have_static_twins_and_headless_shows_none(monkeypatch, capsys):
    monkeypatch.setenv("PGPT_HEADLESS", "1")
    view = widgets.box_view()
    assert len(view.figure().axes) == 3
    view.show()
    assert "interactive in JupyterLab: x, y, size" in capsys.readouterr().out


def test_widgets_can_be_built_and_redraw():
    layers = widgets.layer_view(IMAGE[:40, :40], torch.randn(4, 16, 8))
    assert layers.widget().children[0].value == 0
    probability = np.linspace(0, 1, 2400).reshape(40, 60)
    assert widgets.threshold_view(IMAGE, probability).widget().children[0].max == 0.95


def test_stills_must_name_controls():
    with pytest.raises(InputError, match="lyer"):
        widgets.View(lambda ax, layer: None, {"layer": widgets.Choice([1])}, [{"lyer": 1}])
