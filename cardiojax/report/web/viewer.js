// The viewer of a report: loops with outlines as layers, curves that move the frame, two views in phase.
// Everything it shows is in the page; it loads nothing.
(() => {
  "use strict";
  const { Chart, drawConsistency, drawMarks, element } = cardiojaxCharts;
  const LAYERS = ["predicted", "anatomical", "final"];
  const DEFAULT_FRAME_TIME = 0.04; // seconds, where the recording states none

  function setText(node, text) {
    if (node && node.textContent !== text) node.textContent = text;
  }

  // One loop or still: picture, outlines, slider and buttons.
  class Player {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.position = -1; // index in data.frames
      this.playing = false;
      this.listeners = [];
      this.stage = root.querySelector(".stage");
      this.canvas = root.querySelector("canvas");
      this.overlay = root.querySelector(".stage svg");
      this.slider = root.querySelector("input[type=range]");
      this.status = root.querySelector(".status");
      this.layers = { predicted: false, anatomical: false, final: true, uncertainty: false };
      this.canvas.width = data.width;
      this.canvas.height = data.height;
      const height = data.height * data.aspect;
      this.stage.style.setProperty("--ratio", String(data.width / height));
      this.overlay.setAttribute("viewBox", `0 0 ${data.scale * data.width} ${data.scale * data.height}`);
      this.overlay.setAttribute("preserveAspectRatio", "none");
      this.paths = LAYERS.map((layer) =>
        data.structures.map((structure) => element("path", { class: `${structure} ${layer}` }, this.overlay)),
      );
      this.images = data.images.map((content) => picture(content));
      this.maps = data.uncertainty.map((content) => picture(content));
      for (const image of [...this.images, ...this.maps]) {
        image.addEventListener("load", () => this.draw(), { once: true });
      }
      this.bind();
      this.show(data.phases ? this.nearest(data.phases.end_diastole) : 0);
    }

    get frame() {
      return this.data.frames[this.position];
    }

    get frameTime() {
      return this.data.frame_time || DEFAULT_FRAME_TIME;
    }

    bind() {
      const { root } = this;
      if (this.slider) {
        this.slider.max = String(this.data.frames.length - 1);
        this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
        new ResizeObserver(() => drawMarks(root.querySelector(".marks"), this.data)).observe(root.querySelector(".marks"));
      }
      for (const button of root.querySelectorAll("button[data-act]")) {
        button.addEventListener("click", (event) => {
          this.act(button.dataset.act);
          if (event.detail > 0) this.stage.focus({ preventScroll: true }); // so that Space plays after a click
        });
      }
      const speed = root.querySelector("select");
      if (speed) speed.addEventListener("change", () => (this.speed = Number(speed.value)));
      this.speed = speed ? Number(speed.value) : 1;
    }

    act(name) {
      const last = this.data.frames.length - 1;
      if (name === "play") this.toggle();
      else if (name === "back") this.go(this.position > 0 ? this.position - 1 : last);
      else if (name === "forward") this.go(this.position < last ? this.position + 1 : 0);
      else if (name === "first") this.go(0);
      else if (name === "last") this.go(last);
      else if (name === "ed" && this.data.phases) this.go(this.nearest(this.data.phases.end_diastole));
      else if (name === "es" && this.data.phases) this.go(this.nearest(this.data.phases.end_systole));
      else if (name in this.layers) this.toggleLayer(name);
    }

    toggleLayer(name) {
      const button = this.root.querySelector(`button[data-act=${name}]`);
      if (!button || button.disabled) return;
      this.layers[name] = !this.layers[name];
      button.setAttribute("aria-pressed", String(this.layers[name]));
      this.draw();
    }

    // Shows a frame on behalf of the reader: playing stops.
    go(position) {
      this.pause();
      this.show(position, true);
    }

    show(position, isReader = false) {
      position = Math.min(Math.max(position, 0), this.data.frames.length - 1);
      if (position === this.position) return;
      this.position = position;
      this.draw();
      this.describe();
      for (const listener of this.listeners) listener(this, isReader);
    }

    nearest(frame) {
      const { frames } = this.data;
      let best = 0;
      for (let i = 1; i < frames.length; i++) {
        if (Math.abs(frames[i] - frame) < Math.abs(frames[best] - frame)) best = i;
      }
      return best;
    }

    draw() {
      const i = this.position;
      if (i < 0) return;
      const context = this.canvas.getContext("2d");
      const { width, height } = this.data;
      if (isReady(this.images[i])) {
        context.globalCompositeOperation = "source-over";
        context.drawImage(this.images[i], 0, 0, width, height);
        if (this.layers.uncertainty && isReady(this.maps[i])) {
          context.fillStyle = "rgb(0 0 0 / 45%)"; // the map is added to a darker frame, so that it shows on bright tissue
          context.fillRect(0, 0, width, height);
          context.globalCompositeOperation = "screen";
          context.drawImage(this.maps[i], 0, 0, width, height);
        }
      }
      let outlines = null;
      LAYERS.forEach((layer, k) => {
        outlines = this.data.outlines[layer][i] || outlines; // unchanged from the layer before
        this.data.structures.forEach((_, s) => {
          this.paths[k][s].setAttribute("d", this.layers[layer] && outlines ? outlines[s] : "");
        });
      });
    }

    describe() {
      const { data, frame } = this;
      const parts = data.num_frames > 1 ? [`frame ${frame}`] : [];
      if (data.frame_time) parts.push(`${(frame * data.frame_time).toFixed(2)} s`);
      const phase = phaseName(data, frame);
      if (phase) parts.push(phase);
      setText(this.root.querySelector(".badge"), phase === "end-diastole" ? "ED" : phase === "end-systole" ? "ES" : "");
      if (this.slider) {
        this.slider.value = String(this.position);
        this.slider.setAttribute("aria-valuetext", parts.join(", "));
      }
      if (data.notes[this.position]) parts.push(data.notes[this.position]);
      if (this.status) this.status.setAttribute("aria-live", this.playing ? "off" : "polite");
      setText(this.status, parts.join(" · "));
    }

    toggle() {
      if (this.playing) this.pause();
      else this.play();
    }

    play() {
      if (this.playing || this.data.frames.length < 2) return;
      this.playing = true;
      this.label("Pause");
      let before = null;
      let time = this.frame * this.frameTime;
      const step = (now) => {
        if (!this.playing) return;
        if (before !== null) time += (this.speed * (now - before)) / 1000;
        before = now;
        const length = this.data.num_frames * this.frameTime;
        if (time >= length) time %= length;
        const frame = Math.floor(time / this.frameTime);
        let position = this.data.frames.findIndex((shown) => shown > frame) - 1;
        if (position < 0) position = this.data.frames.length - 1;
        this.show(position);
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    pause() {
      if (!this.playing) return;
      this.playing = false;
      this.label("Play");
      this.describe();
    }

    label(text) {
      const button = this.root.querySelector("button[data-act=play]");
      setText(button, text);
    }

    // Phase of a frame: 0 end-diastole, 1 end-systole, 2 the next end-diastole; null outside of all beats.
    phaseOf(frame) {
      const { beat, beats } = this.data;
      for (const [ed, es, next] of beats.length || !beat ? beats : [beat]) {
        if (ed !== null && frame >= ed && frame <= es) return (frame - ed) / (es - ed);
        if (next !== null && frame >= es && frame <= next) return 1 + (frame - es) / (next - es);
      }
      return null;
    }

    // Frame of the shown beat at a phase; null where the loop does not hold it.
    frameOf(phase) {
      const [ed, es, next] = this.data.beat;
      if (phase <= 1) return ed === null ? (phase === 1 ? es : null) : ed + phase * (es - ed);
      return next === null ? null : es + (phase - 1) * (next - es);
    }

    // Seconds of systole and diastole of the shown beat; null where the loop does not hold it.
    get durations() {
      const [ed, es, next] = this.data.beat;
      return [ed === null ? null : (es - ed) * this.frameTime, next === null ? null : (next - es) * this.frameTime];
    }
  }

  // Two views side by side: what is shown of one is shown of the other at the same phase of the heartbeat.
  class Link {
    constructor(root, players) {
      this.players = players;
      this.box = root.querySelector("input[type=checkbox]");
      this.slider = root.querySelector("input[type=range]");
      this.output = root.querySelector("output");
      this.button = root.querySelector("button");
      this.playing = false;
      this.busy = false;
      const missing = players.filter((player) => !player.data.beat);
      if (missing.length) {
        for (const control of [this.box, this.slider, this.button]) control.disabled = true;
        this.box.checked = false;
        setText(this.output, `not possible: ${missing.map((p) => p.data.title).join(", ")} shows no beat`);
        return;
      }
      this.slider.addEventListener("input", () => {
        this.pause();
        this.show(Number(this.slider.value) / 100);
      });
      this.button.addEventListener("click", (event) => {
        this.toggle();
        if (event.detail > 0) this.button.blur(); // so that Space plays after a click
      });
      this.box.addEventListener("change", () => {
        for (const player of players) player.pause();
        this.pause();
      });
      for (const player of players) player.listeners.push((from, isReader) => this.follow(from, isReader));
      this.show(0);
    }

    get on() {
      return this.box.checked;
    }

    follow(from, isReader) {
      if (!this.on || this.busy || !isReader) return;
      this.pause();
      const phase = from.phaseOf(from.frame);
      if (phase !== null) this.show(phase, from);
    }

    show(phase, except = null) {
      this.busy = true;
      for (const player of this.players) {
        if (player === except) continue;
        player.pause();
        const frame = player.frameOf(phase);
        if (frame !== null) player.show(player.nearest(frame));
      }
      this.busy = false;
      this.phase = phase;
      const percent = Math.round(100 * (phase <= 1 ? phase : phase - 1));
      const text = `${phase <= 1 ? "systole" : "diastole"}, ${percent} %`;
      this.slider.value = String(Math.round(100 * phase));
      this.slider.setAttribute("aria-valuetext", text);
      setText(this.output, text);
    }

    toggle() {
      if (this.playing) this.pause();
      else this.play();
    }

    play() {
      this.playing = true;
      setText(this.button, "Pause");
      const [systole, diastole] = [0, 1].map((part) => {
        const known = this.players.map((player) => player.durations[part]).filter((seconds) => seconds !== null);
        return known.length ? known[0] : 0;
      });
      let before = null;
      let time = this.phase <= 1 ? this.phase * systole : systole + (this.phase - 1) * diastole;
      const step = (now) => {
        if (!this.playing) return;
        if (before !== null) time += (this.players[0].speed * (now - before)) / 1000;
        before = now;
        time %= systole + diastole;
        this.show(time <= systole ? time / systole : 1 + (time - systole) / diastole);
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    }

    pause() {
      this.playing = false;
      setText(this.button, "Play both");
    }
  }

  function picture(content) {
    const image = new Image();
    image.src = `data:image/webp;base64,${content}`;
    return image;
  }

  function isReady(image) {
    return image && image.complete && image.naturalWidth > 0;
  }

  function phaseName(data, frame) {
    if (data.beats.some(([ed]) => ed === frame)) return "end-diastole";
    if (data.beats.some(([, es]) => es === frame)) return "end-systole";
    if (data.phases && data.phases.end_diastole === frame) return "end-diastole";
    if (data.phases && data.phases.end_systole === frame) return "end-systole";
    return "";
  }

  function start() {
    document.documentElement.classList.add("js");
    const players = [...document.querySelectorAll(".panel")].map((root) => {
      const data = JSON.parse(document.getElementById(root.dataset.source).textContent);
      return new Player(root, data);
    });
    players.forEach((player, i) => {
      const charts = document.querySelectorAll(`#charts-${i} .chart`);
      charts.forEach((root, k) => new Chart(root, player, player.data.curves[k]));
      document.querySelectorAll(`#charts-${i} .consistency`).forEach((root, k) => drawConsistency(root, player.data.consistency[k]));
    });
    const linked = document.querySelector(".linked");
    const link = linked && players.length > 1 ? new Link(linked, players) : null;
    let active = players[0];
    for (const player of players) {
      for (const type of ["pointerdown", "focusin"]) player.root.addEventListener(type, () => (active = player));
    }
    document.addEventListener("keydown", (event) => {
      if (active && press(event, active, link)) event.preventDefault();
    });
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (players.length === 1 && !isStill) players[0].play();
    if (link && link.on && !isStill) link.play();
  }

  const KEYS = {
    " ": "play",
    ArrowLeft: "back",
    ArrowRight: "forward",
    Home: "first",
    End: "last",
    d: "ed",
    s: "es",
    1: "predicted",
    2: "anatomical",
    3: "final",
    u: "uncertainty",
  };

  // Whether a key was used. Controls keep the keys that they have of themselves.
  function press(event, player, link) {
    const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const target = event.target instanceof Element ? event.target : document.body;
    if (!name || event.ctrlKey || event.altKey || event.metaKey || target.closest("select, textarea")) return false;
    const isRange = target.matches("input[type=range]");
    if (isRange && event.key !== " " && event.key.length > 1) return false;
    if (event.key === " " && target.closest("button, summary, a, input[type=checkbox]")) return false;
    if (name === "play" && link && link.on) link.toggle();
    else player.act(name);
    return true;
  }

  start();
})();
