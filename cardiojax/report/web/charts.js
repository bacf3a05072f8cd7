// What a report draws as vectors: curves that move the frame, the beats below the slider, temporal consistency.
const cardiojaxCharts = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const MIN_WIDTH = 80; // pixels; narrower elements are not laid out yet

  function element(name, attributes, parent) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  }

  function drawBeats(parent, data, x, top, height) {
    data.beats.forEach(([ed, es, next], i) => {
      const end = next === null ? es : next;
      const band = { y: top, height, class: `beat beat-${i % 2}` };
      element("rect", { ...band, x: x(ed), width: x(end) - x(ed) }, parent);
      element("rect", { ...band, x: x(ed), width: x(es) - x(ed), class: `systole beat-${i % 2}` }, parent);
    });
  }

  function drawCorrected(parent, data, x, y) {
    data.changed.forEach((share, frame) => {
      if (!share && !data.replaced[frame]) return;
      const size = data.replaced[frame] ? 4 : 2.5;
      const [cx, shape] = [x(frame), data.replaced[frame] ? "replaced" : "changed"];
      const d = `M${cx - size} ${y}L${cx + size} ${y}L${cx} ${y - 1.6 * size}z`;
      element("path", { d, class: shape }, parent);
    });
  }

  // Beats, phases and corrected frames below the slider.
  function drawMarks(root, data) {
    const width = root.clientWidth;
    if (width < MIN_WIDTH) return;
    const [height, inset] = [16, 8]; // half a thumb of the slider
    const x = (frame) => inset + (frame / Math.max(data.num_frames - 1, 1)) * (width - 2 * inset);
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    root.replaceChildren();
    drawBeats(root, data, x, 0, height);
    drawCorrected(root, data, x, height - 1);
    for (const [name, frame] of Object.entries(data.phases || {})) {
      element("line", { x1: x(frame), x2: x(frame), y1: 0, y2: height, class: name }, root);
    }
  }

  function ticks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
    const values = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) values.push(Math.abs(v) < 1e-9 ? 0 : v);
    return values;
  }

  // One curve over time. Pointing at it shows that frame.
  class Chart {
    constructor(root, player, curve) {
      Object.assign(this, { root, player, curve });
      this.svg = root.querySelector("svg");
      this.readout = root.querySelector("output");
      new ResizeObserver(() => this.build()).observe(this.svg.parentElement);
      this.svg.addEventListener("pointermove", (event) => this.point(event));
      this.svg.addEventListener("pointerdown", (event) => this.point(event));
      player.listeners.push(() => this.move());
      this.build();
    }

    point(event) {
      const box = this.svg.getBoundingClientRect();
      const share = (event.clientX - box.left - this.left) / (box.width - this.left - this.right);
      const frame = Math.round(share * (this.curve.values.length - 1));
      this.player.go(this.player.nearest(Math.min(Math.max(frame, 0), this.curve.values.length - 1)));
    }

    build() {
      const { data } = this.player;
      const { values, predicted } = this.curve;
      const width = this.svg.parentElement.clientWidth;
      const height = 170;
      if (width < MIN_WIDTH || width === this.width) return;
      Object.assign(this, { width, left: 40, right: 10 });
      const [top, bottom] = [16, 26];
      const known = [...values, ...(predicted || [])].filter((v) => v !== null);
      let [low, high] = [Math.min(...known), Math.max(...known)];
      const margin = 0.1 * (high - low || Math.abs(high) || 1);
      [low, high] = [low - margin, high + margin];
      this.x = (frame) => this.left + (frame / Math.max(values.length - 1, 1)) * (width - this.left - this.right);
      this.y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.setAttribute("height", height);
      this.svg.replaceChildren();
      drawBeats(this.svg, data, this.x, top, height - top - bottom);
      for (const value of ticks(low, high, 3)) {
        element("line", { x1: this.left, x2: width - this.right, y1: this.y(value), y2: this.y(value), class: "grid" }, this.svg);
        const label = element("text", { x: this.left - 5, y: this.y(value) + 4, "text-anchor": "end" }, this.svg);
        label.textContent = String(Number(value.toPrecision(4)));
      }
      const unit = data.frame_time || 1;
      for (const value of ticks(0, (values.length - 1) * unit, width > 300 ? 5 : 3)) {
        const label = element("text", { x: this.x(value / unit), y: height - 9, "text-anchor": "middle" }, this.svg);
        label.textContent = String(Number(value.toPrecision(3)));
      }
      const name = element("text", { x: width - this.right, y: height - 9, "text-anchor": "end", class: "axis" }, this.svg);
      name.textContent = data.frame_time ? "s" : "frame";
      if (predicted) element("path", { d: this.line(predicted), class: "curve predicted" }, this.svg);
      element("path", { d: this.line(values), class: "curve final" }, this.svg);
      drawCorrected(this.svg, data, this.x, height - bottom);
      this.drawPhases();
      this.cursor = element("line", { y1: top, y2: height - bottom, class: "cursor" }, this.svg);
      this.dot = element("circle", { r: 4, class: "dot" }, this.svg);
      this.move();
    }

    drawPhases() {
      const phases = this.player.data.phases || {};
      for (const [name, frame] of Object.entries(phases)) {
        const value = this.curve.values[frame];
        if (value === null) continue;
        const [x, y] = [this.x(frame), this.y(value)];
        element("circle", { cx: x, cy: y, r: 3.5, class: name }, this.svg);
        const anchor = x > this.width - 40 ? "end" : "start";
        const label = element("text", { x: x + (anchor === "end" ? -6 : 6), y: y - 6, "text-anchor": anchor, class: "phase" }, this.svg);
        label.textContent = name === "end_diastole" ? "ED" : "ES";
      }
    }

    line(values) {
      let isOpen = false;
      return values
        .map((value, frame) => {
          if (value === null) {
            isOpen = false;
            return "";
          }
          const command = isOpen ? "L" : "M";
          isOpen = true;
          return `${command}${this.x(frame).toFixed(1)} ${this.y(value).toFixed(1)}`;
        })
        .join("");
    }

    move() {
      const { frame } = this.player;
      if (!this.cursor || frame === undefined) return;
      const value = this.curve.values[frame];
      const x = this.x(frame);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      this.dot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value !== null) {
        this.dot.setAttribute("cx", x);
        this.dot.setAttribute("cy", this.y(value));
      }
      const digits = Math.abs(value) < 100 ? 1 : 0;
      this.readout.textContent = value === null ? "–" : `${value.toFixed(digits)} ${this.curve.unit}`;
    }
  }

  // How far each shape attribute of each frame is from its neighbours, in units of the threshold.
  function drawConsistency(root, ratios) {
    const frames = ratios.length;
    const rows = frames ? ratios[0].length : 0;
    root.setAttribute("viewBox", `0 0 ${frames} ${rows}`);
    root.setAttribute("preserveAspectRatio", "none");
    root.replaceChildren();
    ratios.forEach((values, t) =>
      values.forEach((ratio, row) => {
        if (ratio === null) return;
        const cell = { x: t, y: row, width: 1.02, height: 0.92, class: ratio > 1 ? "beyond" : "within" };
        element("rect", { ...cell, "fill-opacity": Math.min(0.15 + (ratio > 1 ? 0.5 * ratio : 0.6 * ratio), 1) }, root);
      }),
    );
  }

  return { Chart, drawConsistency, drawMarks, element };
})();
