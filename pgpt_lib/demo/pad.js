// A picture to drag boxes on. `drag` is sent as [x0, y0, x1, y1, count] in shares of the picture; `box` is drawn.
function render({ model, el }) {
  const frame = document.createElement("div");
  const image = document.createElement("img");
  const outline = document.createElement("div");
  frame.className = "pgpt-pad";
  frame.style.cssText = "position:relative;display:inline-block;cursor:crosshair;touch-action:none;user-select:none";
  image.style.cssText = "display:block;width:430px;max-width:100%;image-rendering:auto";
  image.draggable = false;
  outline.style.cssText =
    "position:absolute;box-sizing:border-box;border:2px dashed black;outline:2px solid white;pointer-events:none";
  frame.append(image, outline);
  el.append(frame);

  let start = null;
  const place = (event) => {
    const area = image.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  };
  const draw = ([x0, y0, x1, y1]) => {
    outline.style.display = x0 === undefined ? "none" : "block";
    const percent = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
    outline.style.left = percent(Math.min(x0, x1));
    outline.style.top = percent(Math.min(y0, y1));
    outline.style.right = percent(1 - Math.max(x0, x1));
    outline.style.bottom = percent(1 - Math.max(y0, y1));
  };
  const drawBox = () => draw(model.get("box"));
  const showPicture = () => {
    image.src = model.get("url");
    image.alt = model.get("description");
  };

  frame.addEventListener("pointerdown", (event) => {
    start = place(event);
    frame.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (start) draw([...start, ...place(event)]);
  });
  frame.addEventListener("pointercancel", () => {
    start = null;
    drawBox();
  });
  frame.addEventListener("pointerup", (event) => {
    if (!start) return;
    const count = (model.get("drag")[4] || 0) + 1; // so that the same click twice is two clicks
    model.set("drag", [...start, ...place(event), count]);
    model.save_changes();
    start = null;
    drawBox();
  });
  model.on("change:url", showPicture);
  model.on("change:box", drawBox);
  showPicture();
  drawBox();
}

export default { render };
