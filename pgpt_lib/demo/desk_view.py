"""The demo in a notebook: the desk as ipywidgets, with a picture that one can draw on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ..data.sample import VIS
from ..errors import InputError
from ..notebook import headless
from .drawing import answer_figure, numbered, png, shown_jpeg
from .intake import Picture, questions_about_regions
from .messages import answer_html, note_html, problem_html
from .session import Desk, Speaker

WIDE = ipywidgets.Layout(width="430px")


class Pad(anywidget.AnyWidget):
    """A picture to drag boxes on; see `pad.js`.

    Attributes:
        url, description: the picture as a data URL, and its alternative text.
        box: (x1, y1, x2, y2) in [0, 1] that is drawn, or nothing.
        drag: (x0, y0, x1, y1, count) of the latest drag, in shares of the picture.
    """

    _esm = Path(__file__).parent / "pad.js"
    url = traitlets.Unicode().tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    box = traitlets.List(traitlets.Float()).tag(sync=True)
    drag = traitlets.List(traitlets.Float()).tag(sync=True)


class DeskView:
    """Picture, box, question and answer as widgets. Its static twin is `drawing.answer_figure`."""

    def __init__(self, speaker: Speaker) -> None:
        self.desk = Desk(speaker)
        self.offered = ipywidgets.Dropdown(options=list(self.desk.offered), description="picture", layout=WIDE)
        self.upload = ipywidgets.FileUpload(description="or a file", multiple=False)
        self.pad = Pad()
        self.examples = ipywidgets.Dropdown(description="fitting", layout=WIDE)
        self.question = ipywidgets.Text(description="question", layout=WIDE, continuous_update=True)
        self.button = ipywidgets.Button(description="Ask", button_style="primary")
        self.clear = ipywidgets.Button(description="Remove the box")
        self.message, self.words = ipywidgets.HTML(), ipywidgets.HTML()
        self.drawing = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", display="none"))
        self.offered.observe(self._tried(lambda change: self._choose(change["new"])), "value")
        self.upload.observe(self._tried(lambda change: self._take(change["new"])), "value")
        self.pad.observe(self._tried(lambda change: self._mark(change["new"])), "drag")
        self.examples.observe(lambda change: self._suggest(change["new"] or ""), "value")
        self.button.on_click(self._tried(lambda _: self.ask()))
        self.clear.on_click(self._tried(lambda _: self._forget()))
        self._put(self.desk.picture)

    def widget(self) -> ipywidgets.Widget:
        """Everything, the answer below."""
        left = ipywidgets.VBox([self.offered, self.upload, self.pad])
        buttons = ipywidgets.HBox([self.button, self.clear])
        right = ipywidgets.VBox([self.examples, self.question, buttons, self.message, self.words])
        return ipywidgets.VBox([ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"}), self.drawing])

    def show(self) -> None:
        """Display the widgets where a person watches; say in one line where to find them otherwise."""
        if headless():
            print("interactive in JupyterLab: picture, box, question")
            return
        from IPython.display import display

        display(self.widget())

    def ask(self) -> None:
        """Answer the question in the field."""
        self.button.disabled, self.button.description = True, "asking ..."
        try:
            reply = self.desk.ask(self.question.value)
        finally:
            self.button.disabled, self.button.description = False, "Ask"
        self.drawing.value = png(answer_figure(self.desk.picture, reply))
        self.drawing.alt = f"The answer drawn: {numbered(reply.text)}"
        self.drawing.layout.display = None
        self.words.value = answer_html(reply)

    def _choose(self, name: str) -> None:
        if name != self.desk.chosen:  # an upload has already been put on the desk when it is named here
            self._put(self.desk.choose(name))

    def _put(self, picture: Picture) -> None:
        self.pad.url = "data:image/jpeg;base64," + base64.b64encode(shown_jpeg(picture)).decode()
        self.pad.description = f"{picture.name}; drag a box over it or click an object"
        asked = (*picture.questions, *questions_about_regions())
        self.examples.options, self.examples.value = asked, asked[0]
        self._suggest(asked[0])
        self.words.value, self.drawing.layout.display = "", "none"
        self.message.value = note_html(picture.note)
        self._show_region()

    def _take(self, files: tuple[dict[str, Any], ...]) -> None:
        for file in files:
            picture = self.desk.upload(file["name"], bytes(file["content"]))
            self.offered.options, self.offered.value = list(self.desk.offered), self.desk.chosen
            self._put(picture)

    def _mark(self, drag: list[float]) -> None:
        self.desk.mark((drag[0], drag[1]), (drag[2], drag[3]))
        self._show_region()
        if VIS not in self.question.value:
            self.examples.value = questions_about_regions()[0]
            self._suggest(self.examples.value)

    def _forget(self) -> None:
        self.desk.region = None
        self._show_region()

    def _show_region(self) -> None:
        region = self.desk.region
        self.pad.box = list(region.box) if region is not None and region.box is not None else []
        self.clear.disabled = not self.pad.box

    def _suggest(self, question: str) -> None:
        self.question.value = question

    def _tried(self, action: Callable[[Any], None]) -> Callable[[Any], None]:
        """The action with bad input turned into a message below the question."""

        def act(given: Any) -> None:
            self.message.value = ""
            try:
                action(given)
            except InputError as error:
                self.message.value = problem_html(str(error))

        return act
