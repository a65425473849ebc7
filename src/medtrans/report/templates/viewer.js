"use strict";
// Three linked slices through source, prediction, target and error of each shown case.
// The volumes' axes grow towards right, anterior and superior as nearly as they can (viewed_cases.py sees to that); the
// first axis changes fastest. Planes are drawn as radiologists see them: both axes run backwards on the screen, so that
// the patient's right is on the left, and anterior or superior is at the top.
(() => {
  const PLANES = [
    { name: "axial", normal: 2, across: 0, up: 1 },
    { name: "coronal", normal: 1, across: 0, up: 2 },
    { name: "sagittal", normal: 0, across: 1, up: 2 },
  ];
  const KEYS = { ArrowLeft: ["across", 1], ArrowRight: ["across", -1], ArrowUp: ["up", 1], ArrowDown: ["up", -1],
    PageUp: ["normal", 1], PageDown: ["normal", -1] };
  const WHEEL = 40; // pixels of scrolling for a slice

  const rgb = (red, green, blue) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0; // as canvases hold it
  const GREY = Uint32Array.from({ length: 257 }, (_, level) => rgb(...Array(3).fill(Math.min(255, level))));
  const STOPS = [[159, 224, 255], [43, 131, 214], [0, 0, 0], [217, 102, 31], [255, 208, 138]]; // as in the pictures
  const BLUE_TO_ORANGE = Uint32Array.from({ length: 257 }, (_, level) => {
    const stop = Math.min(3, Math.floor(level / 64)), part = level / 64 - stop;
    return rgb(...STOPS[stop].map((from, index) => Math.round(from + part * (STOPS[stop + 1][index] - from))));
  });

  function make(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const digitsOf = (step) => Math.max(0, Math.ceil(-Math.log10(step)));
  const written = (value, digits) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
  const signed = (value, digits) => (value > 0 ? "+" : "") + written(value, digits);

  // The axis of the world that runs most nearly along an axis of the volume: [0 to 2, whether the same way, degrees off].
  function nearest(affine, axis) {
    const column = [0, 1, 2].map((row) => affine[row][axis]), sizes = column.map(Math.abs);
    const world = sizes.indexOf(Math.max(...sizes));
    return [world, column[world] > 0, Math.acos(clamp(sizes[world] / Math.hypot(...column), 0, 1)) * 180 / Math.PI];
  }

  async function unpacked({ data, low, step }) {
    const packed = new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))]);
    const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = bytes.length / 2; // the low bytes of all voxels stand before the high bytes
    return Float32Array.from({ length: count }, (_, index) => low + step * (bytes[index] + 256 * bytes[count + index]));
  }

  async function open(card, shown) {
    const { shape, affine, volumes, contrasts } = shown;
    const strides = [1, shape[0], shape[0] * shape[1]];
    const spacing = [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => affine[row][axis])));
    const widest = Math.max(shape[0] * spacing[0], shape[1] * spacing[1]);
    const at = shape.map((side) => Math.floor(side / 2));

    const [source, prediction, target] = await Promise.all(
      ["source", "prediction", "target"].map((role) => unpacked(volumes[role])));
    const error = prediction.map((value, index) => value - target[index]);
    const unit = shown.unit || "(no unit)", step = Math.max(volumes.prediction.step, volumes.target.step);
    // Images that have the same contrast are shown in one window: contrast.shown is [black, white].
    const images = [
      { name: "source", values: source, contrast: contrasts.source, unit: "as in its file", step: volumes.source.step },
      { name: "prediction", values: prediction, contrast: contrasts.target, unit, step },
      { name: "target", values: target, contrast: contrasts.target, unit, step },
      { name: "prediction − target", values: error, contrast: contrasts.error, unit, step, difference: true },
    ];

    const said = make("output"), panes = [], sliders = [];

    function paint({ context, plane, image }) {
      const [low, high] = image.contrast.shown, colours = image.difference ? BLUE_TO_ORANGE : GREY;
      const width = shape[plane.across], height = shape[plane.up], start = at[plane.normal] * strides[plane.normal];
      const picture = context.createImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
      let pixel = 0;
      for (let up = height - 1; up >= 0; up--) {
        for (let across = width - 1; across >= 0; across--) {
          const value = image.values[start + up * strides[plane.up] + across * strides[plane.across]];
          pixels[pixel++] = colours[clamp(Math.round(256 * (value - low) / (high - low)), 0, 256)];
        }
      }
      context.putImageData(picture, 0, 0);
    }

    function update() {
      for (const pane of panes) {
        const place = (axis) => `${100 * (shape[axis] - at[axis] - 0.5) / shape[axis]}%`;
        paint(pane);
        pane.upright.style.left = place(pane.plane.across);
        pane.level.style.top = place(pane.plane.up);
      }
      for (const { input, plane } of sliders) { input.value = at[plane.normal]; }
      const voxel = at[0] + at[1] * strides[1] + at[2] * strides[2];
      const world = affine.slice(0, 3).map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
      said.replaceChildren(`${world.map((mm) => written(mm, 1)).join(", ")} mm (RAS)`, ...images.map((image) => {
        const text = (image.difference ? signed : written)(image.values[voxel], digitsOf(image.step));
        return make("span", {}, `${image.name} ${text} ${image.unit}`);
      }));
    }

    function moveTo(axis, index) {
      at[axis] = clamp(Math.round(index), 0, shape[axis] - 1);
      update();
    }

    function pane(plane, image) {
      const canvas = make("canvas", { width: shape[plane.across], height: shape[plane.up], role: "img",
        ariaLabel: `${image.name}, ${plane.name} slice` });
      const upright = make("div", { className: "upright" }), level = make("div", { className: "level" });
      const screen = make("div", { className: "screen" }, canvas, upright, level);
      const wide = shape[plane.across] * spacing[plane.across], high = shape[plane.up] * spacing[plane.up];
      Object.assign(screen.style, { width: `${100 * wide / widest}%`, aspectRatio: `${wide} / ${high}` });
      for (const [axis, sides] of [[plane.across, ["left", "right"]], [plane.up, ["top", "bottom"]]]) {
        const [world, same] = nearest(affine, axis);
        const letters = same ? ["RAS"[world], "LPI"[world]] : ["LPI"[world], "RAS"[world]];
        sides.forEach((side, end) => screen.append(make("span", { className: `side ${side}` }, letters[end])));
      }
      const follow = (event) => {
        const box = canvas.getBoundingClientRect();
        moveTo(plane.across, shape[plane.across] * (1 - (event.clientX - box.left) / box.width) - 0.5);
        moveTo(plane.up, shape[plane.up] * (1 - (event.clientY - box.top) / box.height) - 0.5);
      };
      screen.addEventListener("pointerdown", (event) => { screen.setPointerCapture(event.pointerId); follow(event); });
      screen.addEventListener("pointermove", (event) => { if (event.buttons) { follow(event); } });
      panes.push({ plane, image, upright, level, context: canvas.getContext("2d") });
      return make("figure", { className: "pane" }, make("figcaption", { className: "soft" }, image.name), screen);
    }

    const slider = (name, range, changed) => make("label", {}, name, make("input",
      { type: "range", ...range, oninput: (event) => changed(Number(event.target.value)) }));

    function planeRow(plane) {
      const row = make("div", { className: "panes", tabIndex: 0, role: "group", ariaLabel: `${plane.name} slice: arrow ` +
        "keys move the crosshair, Page Up and Page Down change the slice" }, ...images.map((image) => pane(plane, image)));
      row.addEventListener("keydown", (event) => {
        if (!(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey) { return; }
        event.preventDefault();
        const [kind, by] = KEYS[event.key];
        moveTo(plane[kind], at[plane[kind]] + by);
      });
      let turned = 0;
      row.addEventListener("wheel", (event) => {
        if (event.ctrlKey || !card.contains(document.activeElement)) { return; } // the reader zooms, or scrolls past
        event.preventDefault();
        turned += event.deltaMode ? WHEEL * Math.sign(event.deltaY) : event.deltaY;
        const steps = Math.trunc(turned / WHEEL);
        turned -= WHEEL * steps;
        moveTo(plane.normal, at[plane.normal] - steps);
      }, { passive: false });
      const label = slider(plane.name, { min: 0, max: shape[plane.normal] - 1, step: 1 },
        (index) => moveTo(plane.normal, index));
      sliders.push({ input: label.lastChild, plane });
      return make("div", { className: "plane" }, label, row);
    }

    function contrastOf(name, { contrast, unit: its, step: least, difference }) {
      const [low, high] = contrast.range, [black, white] = contrast.shown, shows = make("span", { className: "soft" });
      const parts = difference ? { limit: white } : { level: (black + white) / 2, width: white - black };
      const apply = () => {
        const { limit, level = 0, width = 2 * limit } = parts;
        contrast.shown = [level - width / 2, level + width / 2];
        shows.textContent = `${contrast.shown.map((end) => written(end, digitsOf(least))).join(" to ")} ${its}`;
        update();
      };
      const labels = Object.entries(parts).map(([part, value]) => {
        const range = part === "level" ? { min: low, max: high } : { min: least, max: difference ? high : high - low };
        return slider(part, { ...range, step: "any", value }, (chosen) => { parts[part] = chosen; apply(); });
      });
      apply();
      return make("fieldset", { className: difference ? "error" : "" }, make("legend", {}, name), ...labels, shows);
    }

    const rows = PLANES.map(planeRow);
    const tilt = Math.max(...[0, 1, 2].map((axis) => nearest(affine, axis)[2]));
    card.append(said, ...rows, make("div", { className: "contrasts" }, contrastOf("source", images[0]),
      contrastOf("prediction and target", images[2]), contrastOf("prediction − target", images[3])),
    make("small", {}, `Voxels of ${spacing.map((mm) => Number(mm.toFixed(2))).join(" × ")} mm; ` +
      `prediction and target in steps of ${Number(step.toPrecision(2))} ${unit}.` +
      (tilt > 1 ? ` Slices follow the image's axes, up to ${tilt.toFixed(0)}° off the directions of the letters.` : "")));
    rows[0].lastChild.focus({ preventScroll: true });
  }

  const cases = JSON.parse(document.getElementById("viewed").textContent);
  for (const card of document.querySelectorAll(".viewer")) {
    const button = card.querySelector("button");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await open(card, cases[Number(card.dataset.case)]);
        button.remove();
        card.dataset.state = "ready";
      } catch (error) {
        card.dataset.state = "failed";
        button.replaceWith(`The viewer cannot be opened here: ${error.message}`);
        console.error(error);
      }
    });
  }
})();
