// Under the videos: the sound's waveform, how far both mouths are open, what to look at, and where the players are.

import { byId, clockText, say } from "./page.js";

const PEAKS_PER_S = 50;
const OPENINGS_PER_S = 25;
const SOUND_SHARE = 0.42; // of the height; the rest is the mouths', and a strip for how sure each second is
const STRIP_PX = 6;
const EDGE_PX = 6; // of a moment that stays to be seen over a stretch of the source
const LEAST_OPENING = 0.05; // shares of the face box: a mouth that never opens further is drawn flat, not blown up

export class Timeline {
  constructor({ onSeek }) {
    this.onSeek = onSeek;
    this.place = byId("timeline");
    this.canvas = byId("curves");
    new ResizeObserver(() => this.draw()).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.place.addEventListener("pointerdown", (event) => {
      this.place.setPointerCapture(event.pointerId);
      this.seekTo(event);
    });
    this.place.addEventListener("pointermove", (event) => event.buttons && this.seekTo(event));
  }

  load(item) {
    this.item = item;
    this.place.setAttribute("aria-valuemax", item.duration_s);
    this.draw();
  }

  seekTo(event) {
    if (!this.item) return;
    const box = this.place.getBoundingClientRect();
    this.onSeek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.item.duration_s);
  }

  /** Where the players are. */
  point(timeS) {
    if (!this.item) return;
    byId("playhead").style.left = `${Math.min(100, (100 * timeS) / this.item.duration_s)}%`;
    this.place.setAttribute("aria-valuenow", timeS.toFixed(2));
    this.place.setAttribute("aria-valuetext", say("at", { time: clockText(timeS) }));
  }

  draw() {
    const box = this.place.getBoundingClientRect();
    if (!this.item || !box.width) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * scale);
    this.canvas.height = Math.round(box.height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const size = { width: box.width, height: box.height, sound: box.height * SOUND_SHARE };
    const colours = getComputedStyle(this.place);
    const colour = (name) => colours.getPropertyValue(`--${name}`).trim();
    this.drawStretches(context, size, this.item.moments, colour("moment"));
    this.drawStretches(context, size, this.item.passed_through, colour("passed"), EDGE_PX);
    this.drawSound(context, size, colour("sound"));
    this.drawMouths(context, size, colour);
    this.drawConfidence(context, size, colour);
  }

  /** From `top` on, instead of what is there: two colours on each other would be one that the legend does not have. */
  drawStretches(context, { width, height }, stretches, colour, top = 0) {
    context.fillStyle = colour;
    for (const { start_s, end_s } of stretches) {
      const left = (start_s / this.item.duration_s) * width;
      const box = [left, top, Math.max(2, ((end_s - start_s) / this.item.duration_s) * width), height - top];
      context.clearRect(...box);
      context.fillRect(...box);
    }
  }

  drawSound(context, { width, sound }, colour) {
    context.fillStyle = colour;
    const middle = sound / 2;
    for (let x = 0; x < width; x += 1) {
      const [from, to] = [x, x + 1].map((edge) => Math.floor((edge / width) * this.item.duration_s * PEAKS_PER_S));
      const loudest = Math.max(0, ...this.item.peaks.slice(from, Math.max(from + 1, to)));
      const half = Math.max(0.5, loudest * (middle - 2));
      context.fillRect(x, middle - half, 1, 2 * half);
    }
  }

  drawMouths(context, { width, height, sound }, colour) {
    const curves = [["opening-source", this.item.source_opening], ["opening-dub", this.item.dub_opening]];
    const most = Math.max(LEAST_OPENING, ...curves.flatMap(([, values]) => values.filter((value) => value !== null)));
    const bottom = height - STRIP_PX - 4;
    const perValue = width / (this.item.duration_s * OPENINGS_PER_S);
    for (const [name, values] of curves) {
      context.strokeStyle = colour(name);
      context.lineWidth = 1.6;
      context.lineJoin = "round";
      context.setLineDash(name === "opening-source" ? [4, 3] : []); // told apart without colour, too
      context.beginPath();
      let isOn = false;
      values.forEach((value, index) => {
        if (value === null) return void (isOn = false);
        const [x, y] = [(index + 0.5) * perValue, bottom - (value / most) * (bottom - sound - 6)];
        if (isOn) context.lineTo(x, y);
        else context.moveTo(x, y);
        isOn = true;
      });
      context.stroke();
    }
    context.setLineDash([]);
  }

  drawConfidence(context, { width, height }, colour) {
    const perSecond = width / this.item.duration_s;
    this.item.confidence.forEach((share, second) => {
      context.globalAlpha = 0.15 + 0.85 * (1 - share);
      context.fillStyle = colour(share < 0.5 ? "bad" : "sound");
      context.fillRect(second * perSecond, height - STRIP_PX, Math.min(perSecond - 1, width - second * perSecond), STRIP_PX);
    });
    context.globalAlpha = 1;
  }
}
