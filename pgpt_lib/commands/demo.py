"""`python -m pgpt_lib demo`: ask a trained model in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ._output import JsonFlag, log, results


def demo(
    checkpoint: Annotated[
        Path | None, typer.Option(help="A step_N, or a folder of them; else the first in reports/{cpu,photos,smoke}.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; others than this can be reached from outside.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 5006,
    json: JsonFlag = False,
) -> None:
    """Serve a page on which one asks a trained model about pictures, until Ctrl-C."""
    from ..demo.session import Speaker, default_checkpoint

    with results(json) as emit:
        try:
            from ..demo.page import LOOPBACK, free_port, serve
        except ModuleNotFoundError as error:
            raise InputError(f"the demo needs {error.name}: pip install 'panel>=1.9'") from None
        port = free_port(host, port)
        speaker = Speaker.load(checkpoint or default_checkpoint())
        if host not in LOOPBACK:
            log(f"whoever reaches {host}:{port} can use this page and upload pictures to it")
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        emit({"url": url, "model": speaker.name}, f"{url} asks the model {speaker.name}; Ctrl-C ends it")
        serve(speaker, host, port)
