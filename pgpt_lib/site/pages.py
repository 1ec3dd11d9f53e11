"""Reads a built site: links that lead nowhere, pictures without words, whatever another host would have to send."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "link": "href", "source": "src"}


@dataclass
class Findings:
    """What is wrong, one sentence each, and the addresses elsewhere that pages link to (listed, not visited)."""

    pages: int = 0
    figures: int = 0
    links: int = 0
    problems: list[str] = field(default_factory=list)
    external: set[str] = field(default_factory=set)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[tuple[str, str]] = []
        self.wordless: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.update(given[name] for name in ("id", "name") if given.get(name) and (name == "id" or tag == "a"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append((tag, given[LOADED[tag]]))
        if tag == "img":
            self.figures += 1
            if not given.get("alt", "").strip() or given["alt"] == given.get("src"):
                self.wordless.append(given.get("src", "?"))


def examine(site: Path) -> Findings:
    """Read every page below a folder."""
    site = site.resolve()
    read = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found = Findings(pages=len(read))
    for path, page in read.items():
        name = path.relative_to(site).as_posix()
        found.figures += page.figures
        found.problems += [f"{name}: no alternative text for {src[:80]}" for src in page.wordless]
        for tag, address in page.loaded:
            if urlsplit(address).netloc:
                found.problems.append(f"{name}: <{tag}> loads {address} from another host")
            elif not address.startswith("data:"):
                _follow(address, path, site, read, found)
        for address in page.links:
            if urlsplit(address).scheme or urlsplit(address).netloc:
                found.external.add(address)
            else:
                found.links += 1
                _follow(address, path, site, read, found)
    return found


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _follow(address: str, path: Path, site: Path, read: dict[Path, _Page], found: Findings) -> None:
    parts, name = urlsplit(address), path.relative_to(site).as_posix()
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if site not in target.parents or not target.is_file():
        found.problems.append(f"{name}: {address} leads nowhere")
    elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].ids:
        found.problems.append(f"{name}: {address} has no such place on its page")
