"""The demo as a web page, served by Panel: nothing comes from outside, and every visitor has a desk of their own."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import panel as pn
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import BoxSelectTool, ColumnDataSource, Range1d
from bokeh.plotting import figure

from ..commands.ask import MAX_PIXELS
from ..data.sample import VIS
from ..errors import InputError
from ..regions import Region
from .drawing import WEIGHTS, numbered, png, regions_figure, shown_jpeg, weights_figure
from .intake import MAX_BYTES, Picture, questions_about_regions
from .messages import answer_html, note_html, problem_html, tokens_html
from .session import Desk, Reply, Speaker

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LARGEST = f"{MAX_BYTES // 2**20}MB"
SIDE = 430  # pixels of the picture on the page, along its longer side; less on a narrow screen
HOW = (
    "Drag a box over the picture, or click an object: <code>&lt;vis&gt;</code> in a question then stands for it. "
    "Questions without <code>&lt;vis&gt;</code> need no box."
)
SHELL = """{% extends base %}
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root { --bokeh-font-size: 15px }</style>
{% endblock %}
"""


class Page:
    """One visitor's page."""

    def __init__(self, speaker: Speaker) -> None:
        self.desk = Desk(speaker)
        self._seen: dict[str, bytes | str] = {}
        self.offered = pn.widgets.Select(name="Picture", options=list(self.desk.offered), sizing_mode="stretch_width")
        self.dropper = pn.widgets.FileDropper(
            max_file_size=LARGEST, previews=[], layout="compact", height=90, sizing_mode="stretch_width"
        )
        self.examples = pn.widgets.Select(name="Questions that fit", sizing_mode="stretch_width")
        self.question = pn.widgets.TextInput(
            name="Your question", placeholder="find the red circle .", sizing_mode="stretch_width"
        )
        self.button = pn.widgets.Button(name="Ask", button_type="primary", width=110)
        self.clear = pn.widgets.Button(name="Remove the box", width=130)
        self.about_picture, self.about_question, self.words, self.tokens, self.caption = (
            pn.pane.HTML("", sizing_mode="stretch_width", css_classes=[name])
            for name in ("about-picture", "about-question", "answer", "tokens", "caption")
        )
        self._part: dict[str, Any] = {"max_width": SIDE, "styles": {"flex": "1 1 300px", "min-width": "0"}}
        self.drawing = pn.pane.PNG(None, sizing_mode="scale_width", **self._part)
        self.weights = pn.pane.PNG(None, sizing_mode="scale_width", max_width=SIDE)
        self.picture_source = ColumnDataSource({"url": [], "width": [], "height": []})
        self.box_source = ColumnDataSource({"left": [], "top": [], "right": [], "bottom": []})
        self.easel = self._easel()
        self.easel_pane = pn.pane.Bokeh(self.easel, sizing_mode="stretch_width")
        pointed, asked = self.about_picture, self.about_question
        self.offered.param.watch(lambda event: self._try(pointed, partial(self.choose, event.new)), "value")
        self.dropper.param.watch(lambda event: self._try(pointed, partial(self.upload, event.new)), "value")
        self.examples.param.watch(lambda event: self._suggest(event.new), "value")
        self.button.on_click(self._asked)
        self.question.param.watch(self._asked, "enter_pressed")
        self.clear.on_click(lambda _: self._try(asked, self.remove))
        self.show(self.desk.picture)

    def view(self) -> pn.Template:
        """The whole page."""
        title = f"<h1>Ask about a picture</h1><p>The model: {self.desk.speaker.name}.</p>"
        left = pn.Column(
            self.offered,
            pn.pane.HTML(HOW, sizing_mode="stretch_width"),
            self.easel_pane,
            self.about_picture,
            pn.pane.HTML(f"Or a picture of your own, of at most {MAX_PIXELS // 10**6} megapixels:"),
            self.dropper,
            styles={"flex": f"1 1 {SIDE}px", "min-width": "0"},
            max_width=SIDE,
        )
        right = pn.Column(
            self.examples,
            self.question,
            pn.Row(self.button, self.clear),
            self.about_question,
            self.words,
            pn.FlexBox(self.drawing, pn.Column(self.caption, self.weights, **self._part)),
            self.tokens,
            styles={"flex": "1 1 480px", "min-width": "0"},  # beside the picture, or below it on a narrow screen
        )
        page = pn.Template(SHELL)
        columns = pn.FlexBox(left, right, flex_wrap="wrap", gap="24px", sizing_mode="stretch_width")
        page.add_panel("page", pn.Column(pn.pane.HTML(title), columns, sizing_mode="stretch_width", margin=12))
        return page

    def choose(self, name: str) -> None:
        """Show one of the pictures on offer."""
        if name != self.desk.chosen:  # an upload has already been put on the desk when it is named here
            self.show(self.desk.choose(name))

    def upload(self, files: dict[str, bytes | str]) -> None:
        """Show what was uploaded. Panel gives what looks like text as a string."""
        fresh = {name: data for name, data in files.items() if self._seen.get(name) is not data}
        self._seen = dict(files)  # Panel also calls when a file is taken off the list, and names those that stay
        for name, data in fresh.items():
            picture = self.desk.upload(name, data.encode() if isinstance(data, str) else data)
            self.offered.param.update(options=list(self.desk.offered), value=self.desk.chosen)
            self.show(picture)

    async def ask(self) -> None:
        """Answer the question in the field, in a thread, so that the page says so and other visitors are served."""
        picture, region, question = self.desk.picture, self.desk.region, self.question.value_input or ""
        self.button.param.update(disabled=True, name="Asking ...")
        try:
            reply, *figures = await asyncio.to_thread(self._answer, picture, question, region)
        finally:
            self.button.param.update(disabled=False, name="Ask")
        if self.desk.picture is picture:  # else it was replaced meanwhile
            self._tell(reply, *figures)

    def _answer(self, picture: Picture, question: str, region: Region | None) -> tuple[Reply, bytes, bytes]:
        reply = self.desk.speaker.ask(picture, question, region)
        return reply, png(regions_figure(picture, reply), 200), png(weights_figure(reply), 200)

    def _tell(self, reply: Reply, drawing: bytes, weights: bytes) -> None:
        self.words.object, self.tokens.object = answer_html(reply), tokens_html(reply)
        self.drawing.param.update(object=drawing, alt_text=f"The answer drawn: {numbered(reply.text)}")
        self.weights.param.update(object=weights, alt_text="Bars of the fusion weights, one a layer")
        self.caption.object = WEIGHTS.capitalize()

    def remove(self) -> None:
        """Forget the region."""
        self.desk.region = None
        self._show_region()

    def show(self, picture: Picture) -> None:
        """Put a picture on the easel and forget the last answer."""
        height, width = picture.pixels.shape[:2]
        self.easel.aspect_ratio = min(max(width / height, 0.2), 5)
        self.easel.max_width = round(SIDE * min(1, self.easel.aspect_ratio))
        url = "data:image/jpeg;base64," + base64.b64encode(shown_jpeg(picture)).decode()
        self.picture_source.data = {"url": [url], "width": [1.0], "height": [1.0]}
        asked = [*picture.questions, *questions_about_regions()]
        self.examples.param.update(options=asked, value=asked[0])
        self._suggest(asked[0])
        for told in (self.words, self.tokens, self.caption, self.about_question):
            told.object = ""
        self.drawing.object = self.weights.object = None
        self.about_picture.object = note_html(picture.note)
        self._show_region()

    def mark(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Mark what was dragged or clicked, and offer a question about it."""
        self.desk.mark(start, end)
        self._show_region()
        if VIS not in (self.question.value_input or ""):
            self.examples.value = questions_about_regions()[0]
            self._suggest(self.examples.value)

    def _suggest(self, question: str) -> None:
        self.question.value = self.question.value_input = question

    def _show_region(self) -> None:
        region = self.desk.region
        box = (region.box if region else None) or ()
        names = ("left", "top", "right", "bottom")
        self.box_source.data = (
            {name: [value] for name, value in zip(names, box, strict=True)} if box else {name: [] for name in names}
        )
        self.clear.disabled = not box

    async def _asked(self, _: Any) -> None:
        if not self.button.disabled:
            with self._telling(self.about_question):
                await self.ask()

    def _try(self, pane: pn.pane.HTML, action: Callable[[], None]) -> None:
        with self._telling(pane):
            action()

    @contextmanager
    def _telling(self, pane: pn.pane.HTML) -> Iterator[None]:
        """Bad input becomes a message in a pane, and anything else a message too, so that the page stays usable."""
        pane.object = ""
        try:
            yield
        except InputError as error:
            pane.object = problem_html(str(error))
        except Exception as error:
            pane.object = problem_html(f"This failed: {type(error).__name__}: {error}")
            raise

    def _easel(self) -> Any:
        """The picture to draw on: in shares of the picture, y downwards."""
        select = BoxSelectTool(persistent=False)
        easel = figure(
            x_range=Range1d(start=0, end=1),
            y_range=Range1d(start=1, end=0),
            tools=[select, "tap"],
            toolbar_location=None,
            min_border=0,
            margin=(5, 10, 5, 10),
            sizing_mode="scale_width",
            outline_line_color=None,
        )
        easel.axis.visible = easel.grid.visible = False
        easel.toolbar.active_drag = select
        easel.image_url("url", 0, 0, "width", "height", anchor="top_left", source=self.picture_source)
        for color, dash in (("white", "solid"), ("black", "dashed")):
            easel.quad(
                left="left",
                right="right",
                top="top",
                bottom="bottom",
                source=self.box_source,
                fill_alpha=0,
                line_color=color,
                line_dash=dash,
                line_width=2,
            )
        easel.on_event(SelectionGeometry, self._dragged)
        easel.on_event(Tap, lambda event: self._pointed((event.x, event.y), (event.x, event.y)))
        return easel

    def _dragged(self, event: Any) -> None:
        shape = event.geometry or {}
        if event.final and shape.get("type") == "rect":
            start, end = (shape["x0"], shape["y0"]), (shape["x1"], shape["y1"])
            self._pointed(start, end)

    def _pointed(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self._try(self.about_picture, partial(self.mark, start, end))


def free_port(host: str, port: int) -> int:
    """The port itself, or a free one for 0.

    Raises:
        InputError: it is taken, not allowed, or the host is none of this machine's addresses.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise InputError(f"--host {host} --port {port} cannot be used: {error}; try --port 0 for a free one") from None


def serve(speaker: Speaker, host: str, port: int, **options: Any) -> Any:
    """Serve the page until interrupted; returns at once with `start=False`, for tests.

    Only pages of this server may open its socket, so that no web site that is visited meanwhile can.
    """
    pn.extension("filedropper")
    names = {host, "localhost"} if host in LOOPBACK else {"*"}
    origins = [f"[{name}]:{port}" if ":" in name else name if name == "*" else f"{name}:{port}" for name in names]
    return pn.serve(
        {"/": lambda: Page(speaker).view()},
        address=host,
        port=port,
        websocket_origin=origins,
        title="Ask about a picture",
        show=False,
        **options,
    )
