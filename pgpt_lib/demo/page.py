"""The demo as a web page, served by Panel: nothing comes from outside, and every visitor has a desk of their own."""

from __future__ import annotations

import base64
import socket
from functools import partial
from typing import Any

import panel as pn
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import BoxSelectTool, ColumnDataSource, Range1d
from bokeh.plotting import figure

from ..data.sample import VIS
from ..errors import InputError
from .drawing import answer_figure, numbered, png, shown_jpeg
from .intake import MAX_BYTES, Picture, questions_about_regions
from .messages import answer_html, note_html, problem_html
from .session import Desk, Speaker

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LARGEST = f"{MAX_BYTES // 2**20}MB"
SIDE = 430  # pixels of the picture on the page, along its longer side
OWN = "an upload"
HOW = (
    "Drag a box over the picture, or click an object. It is what <code>&lt;vis&gt;</code> in your question stands for."
)


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
        self.message = pn.pane.HTML("", sizing_mode="stretch_width", css_classes=["message"])
        self.words = pn.pane.HTML("", sizing_mode="stretch_width", css_classes=["answer"])
        self.drawing = pn.pane.PNG(None, sizing_mode="stretch_width", max_width=1100, alt_text="")
        self.picture_source = ColumnDataSource({"url": [], "width": [], "height": []})
        self.box_source = ColumnDataSource({"left": [], "top": [], "right": [], "bottom": []})
        self.easel = self._easel()
        self.easel_pane = pn.pane.Bokeh(self.easel)
        self.offered.param.watch(lambda event: self._try(partial(self.choose, event.new)), "value")
        self.dropper.param.watch(lambda event: self._try(partial(self.upload, event.new)), "value")
        self.examples.param.watch(lambda event: self._suggest(event.new), "value")
        self.button.on_click(lambda _: self._try(self.ask))
        self.question.param.watch(lambda _: self._try(self.ask), "enter_pressed")
        self.clear.on_click(lambda _: self._try(self.remove))
        self.show(self.desk.picture)

    def view(self) -> pn.viewable.Viewable:
        """The whole page."""
        title = f"<h1>Ask about a picture</h1><p>A PerceptionGPT of this project: {self.desk.speaker.name}.</p>"
        left = pn.Column(
            self.offered,
            pn.pane.HTML("or one of your own (at most 50 megapixels):"),
            self.dropper,
            self.easel_pane,
            pn.pane.HTML(HOW, width=SIDE),
            styles={"flex": f"0 1 {SIDE + 40}px"},
        )
        asking = pn.Column(self.examples, self.question, pn.Row(self.button, self.clear), sizing_mode="stretch_width")
        wide = {"flex": "1 1 480px", "min-width": "0"}  # beside the picture, or below it on a narrow screen
        right = pn.Column(asking, self.message, self.words, self.drawing, styles=wide, sizing_mode="stretch_width")
        return pn.Column(
            pn.pane.HTML(title), pn.FlexBox(left, right, flex_wrap="wrap"), sizing_mode="stretch_width", margin=16
        )

    def choose(self, name: str) -> None:
        """Show one of the offered pictures."""
        if name != OWN:
            self.show(self.desk.choose(name))

    def upload(self, files: dict[str, bytes | str]) -> None:
        """Show what was uploaded. Panel gives what looks like text as a string."""
        fresh = {name: data for name, data in files.items() if self._seen.get(name) is not data}
        self._seen = dict(files)  # Panel also calls when a file is taken off the list, and names those that stay
        for name, data in fresh.items():
            picture = self.desk.upload(name, data.encode() if isinstance(data, str) else data)
            self.offered.param.update(options=[*self.desk.offered, OWN], value=OWN)
            self.show(picture)

    def ask(self) -> None:
        """Answer the question in the field."""
        self.button.disabled = True
        try:
            reply = self.desk.ask(self.question.value_input or "")
        finally:
            self.button.disabled = False
        self.drawing.param.update(
            object=png(answer_figure(self.desk.picture, reply)), alt_text=f"The answer drawn: {numbered(reply.text)}"
        )
        self.words.object = answer_html(reply)

    def remove(self) -> None:
        """Forget the region."""
        self.desk.region = None
        self._show_region()

    def show(self, picture: Picture) -> None:
        """Put a picture on the easel and forget the last answer."""
        height, width = picture.pixels.shape[:2]
        scale = SIDE / max(height, width)
        self.easel.width, self.easel.height = max(60, round(width * scale)), max(60, round(height * scale))
        url = "data:image/jpeg;base64," + base64.b64encode(shown_jpeg(picture)).decode()
        self.picture_source.data = {"url": [url], "width": [1.0], "height": [1.0]}
        asked = [*picture.questions, *questions_about_regions()]
        self.examples.param.update(options=asked, value=asked[0])
        self._suggest(asked[0])
        self.words.object, self.drawing.object = "", None
        self.message.object = note_html(picture.note)
        self._show_region()

    def mark(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Mark what was dragged or clicked, and offer a question about it."""
        self.desk.mark(start, end)
        self._show_region()
        if VIS not in (self.question.value_input or ""):
            self._suggest(questions_about_regions()[0])

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

    def _try(self, action: Any) -> None:
        """Do it; bad input becomes a message, and anything else a message too, so that the page stays usable."""
        self.message.object = ""
        try:
            action()
        except InputError as error:
            self.message.object = problem_html(str(error))
        except Exception as error:
            self.message.object = problem_html(f"This failed: {type(error).__name__}: {error}")
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
        easel.on_event(Tap, lambda event: self._try(partial(self.mark, (event.x, event.y), (event.x, event.y))))
        return easel

    def _dragged(self, event: Any) -> None:
        shape = event.geometry or {}
        if event.final and shape.get("type") == "rect":
            start, end = (shape["x0"], shape["y0"]), (shape["x1"], shape["y1"])
            self._try(partial(self.mark, start, end))


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
