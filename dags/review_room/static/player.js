// Source and dub side by side, as one: they play together, and are scrubbed and stepped by frames together.

import { byId, clockText, say } from "./page.js";

const FAR_S = 0.25; // apart so far they jump together; less is made up by running a little faster
const CATCH_UP = 0.1;

export class Player {
  constructor({ onTime }) {
    this.dub = byId("dub");
    this.source = byId("source");
    this.onTime = onTime;
    this.fps = 25;
    this.durationS = 0;
    for (const video of [this.dub, this.source]) {
      video.addEventListener("error", () => missing(video, true));
      // What is sought before a video has come is forgotten by some browsers.
      video.addEventListener("loadedmetadata", () => this.dub.paused && this.wanted !== null && (video.currentTime = this.wanted));
      video.addEventListener("click", () => this.toggle());
    }
    this.dub.addEventListener("ended", () => this.pause());
    for (const name of ["play", "pause", "seeked", "timeupdate"]) this.dub.addEventListener(name, () => this.tell());
    byId("play").addEventListener("click", () => this.toggle());
    byId("frame-back").addEventListener("click", () => this.step(-1));
    byId("frame-on").addEventListener("click", () => this.step(1));
  }

  load({ dub, source, fps, durationS }) {
    this.pause();
    Object.assign(this, { fps, durationS });
    for (const [video, url] of [[this.dub, dub], [this.source, source]]) {
      missing(video, false);
      video.src = url;
      video.load();
    }
    this.wanted = 0.5 / fps;
    this.tell();
  }

  get timeS() {
    return this.wanted ?? this.dub.currentTime;
  }

  get frame() {
    return Math.floor(this.timeS * this.fps + 1e-6);
  }

  toggle() {
    if (this.dub.paused) this.play();
    else this.pause();
  }

  async play() {
    if (this.timeS >= this.durationS - 1.5 / this.fps) this.seek(0);
    this.wanted = null;
    this.source.currentTime = this.dub.currentTime;
    const started = await Promise.allSettled([this.dub.play(), this.source.play()]);
    if (started[0].status === "rejected") this.pause();
    this.follow();
  }

  pause() {
    this.dub.pause();
    this.source.pause();
    this.source.playbackRate = 1;
    this.source.currentTime = this.dub.currentTime;
    this.tell();
  }

  /** Both to the middle of the frame at a time: at its very edge the two might show different ones. */
  seek(timeS) {
    const last = Math.max(0, Math.round(this.durationS * this.fps) - 1);
    const frame = Math.min(last, Math.max(0, Math.floor(timeS * this.fps + 1e-6)));
    const middle = (frame + 0.5) / this.fps;
    this.wanted = this.dub.paused ? middle : null;
    for (const video of [this.dub, this.source]) video.currentTime = middle;
    this.tell();
  }

  step(frames) {
    this.pause();
    this.seek((this.frame + frames + 0.5) / this.fps);
  }

  /** While they play, the source keeps to the dub. */
  follow() {
    cancelAnimationFrame(this.next);
    if (this.dub.paused) return this.tell();
    const apartS = this.source.currentTime - this.dub.currentTime;
    if (Math.abs(apartS) > FAR_S) this.source.currentTime = this.dub.currentTime;
    this.source.playbackRate = Math.abs(apartS) > 0.5 / this.fps ? 1 - Math.max(-CATCH_UP, Math.min(CATCH_UP, 2 * apartS)) : 1;
    if (this.source.paused && !this.source.ended) this.source.play().catch(() => {});
    this.tell();
    this.next = requestAnimationFrame(() => this.follow());
  }

  tell() {
    const isPlaying = !this.dub.paused;
    const button = byId("play");
    button.dataset.playing = isPlaying;
    button.title = say(isPlaying ? "pause" : "play");
    button.setAttribute("aria-label", button.title);
    byId("position").textContent = `${clockText(this.frame / this.fps)} / ${clockText(this.durationS)} · ${say("frame", { number: this.frame })}`;
    this.onTime(this.timeS);
  }
}

function missing(video, isMissing) {
  video.parentElement.querySelector(".missing").hidden = !isMissing;
}
