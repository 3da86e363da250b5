// The room: one list of messages, the same in every window. `send` is the only way in for what a person writes, `show` the only way
// onto the list. The server's number of a message is its place; one without a number is still on its way, and stands at the end.

import { ask, batchUrl, byId, element, newId, page, say, whenText } from "./page.js";

const LONGEST = 4000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
const NEAR_END_PX = 80;
const QUIET_S = 300; // messages of one person that follow each other within this stand together
const PATIENCE_MS = 1500; // a stream that comes back so soon was never away

export class Room {
  constructor({ onVerdicts, onUnread }) {
    this.onVerdicts = onVerdicts;
    this.onUnread = onUnread;
    this.shown = new Map(); // id of a message -> its element
    this.unsent = []; // in the order of writing
    this.streamed = null; // number of the last message that the stream brought
    this.first = Infinity;
    this.isFlushing = false;
    this.pauseMs = FIRST_PAUSE_MS;
    this.wake = () => {};
    this.list = byId("messages");
    this.scroller = byId("messages-scroll");
    byId("earlier").addEventListener("click", () => this.fetchEarlier());
    window.addEventListener("online", () => this.wake());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.listen()));
  }

  open() {
    for (const message of kept()) this.enqueue(message);
    this.listen();
  }

  /** What pressing send does: the message is on the list at once, and on its way to the server until the server has it. */
  send(text) {
    this.lastAt = Math.max(Date.now() / 1000, (this.lastAt ?? 0) + 0.001); // no two at one time: what is kept is sorted by it
    const message = { message_id: newId(), text: text.trim(), author: page.author, posted_at_s: this.lastAt };
    keep(message);
    this.enqueue(message);
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  enqueue(message) {
    this.unsent.push(message);
    this.show(message);
    this.flush();
  }

  /** Sends what is unsent, one after the other, so that the room has it in the order of writing. */
  async flush() {
    if (this.isFlushing) return;
    this.isFlushing = true;
    for (let message; (message = this.unsent.find((one) => !one.refused)); ) await this.deliver(message);
    this.isFlushing = false;
  }

  async deliver(message) {
    try {
      this.show(await ask(`${batchUrl}/messages`, { message_id: message.message_id, text: message.text }));
      this.pauseMs = FIRST_PAUSE_MS;
    } catch (refusal) {
      if (refusal.status === 401) this.say("signed_out", "away");
      if (refusal.passes || refusal.status === 401) await this.pause(refusal.waitS);
      else this.refuse(message, refusal.message);
    }
  }

  async pause(waitS) {
    const waitMs = waitS > 0 ? 1000 * waitS : this.pauseMs;
    this.pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * this.pauseMs);
    await new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, waitMs);
    });
  }

  refuse(message, reason) {
    message.refused = reason;
    this.show(message);
  }

  /** Puts a message onto the list, or in its place once it has a number; one that is there already stays. */
  show(message) {
    const id = message.message_id;
    const before = this.shown.get(id);
    if (before?.dataset.number) return;
    const wasAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < NEAR_END_PX;
    before?.remove();
    const made = this.draw(message);
    this.shown.set(id, made);
    if (message.number) this.forget(id);
    let after = this.list.lastElementChild;
    while (after && message.number && !(Number(after.dataset.number) < message.number)) after = after.previousElementSibling;
    if (after) after.after(made);
    else this.list.prepend(made);
    for (const one of [made, made.nextElementSibling]) one && standTogether(one);
    this.first = Math.min(this.first, message.number ?? Infinity);
    byId("no-messages").hidden = true;
    byId("earlier").hidden = !(this.first > 1 && this.first < Infinity);
    if (wasAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  draw(message) {
    const state = message.number ? null : message.refused ? "refused" : "pending";
    const head = element("p", { class: "who" }, element("span", { class: "author" }, message.author), element("time", {}, whenText(message.posted_at_s)));
    const made = element("li", { class: message.author === page.author ? "message own" : "message", "data-state": state, "data-number": message.number ?? null });
    made.dataset.author = message.author;
    made.dataset.at = message.posted_at_s;
    made.append(head, element("p", { class: "text" }, message.text));
    if (state === "pending") made.append(element("p", { class: "on-its-way" }, say("sending")));
    if (state === "refused") made.append(this.drawRefusal(message));
    return made;
  }

  drawRefusal(message) {
    const again = element("button", { type: "button", class: "quiet" }, say("try_again"));
    const away = element("button", { type: "button", class: "quiet" }, say("discard"));
    again.addEventListener("click", () => {
      delete message.refused;
      this.show(message);
      this.flush();
    });
    away.addEventListener("click", () => {
      this.forget(message.message_id);
      this.shown.get(message.message_id)?.remove();
      this.shown.delete(message.message_id);
    });
    return element("p", { class: "on-its-way" }, say("unsent", { reason: message.refused }), " ", again, " ", away);
  }

  /** The server has it, or nobody wants it any more. */
  forget(id) {
    this.unsent = this.unsent.filter((one) => one.message_id !== id);
    unkeep(id);
  }

  /** Leaves the stream while nobody looks: a browser keeps six connections to a server, and further tabs would stay blank. */
  rest() {
    clearTimeout(this.awayTimer);
    clearTimeout(this.listenTimer);
    this.source?.close();
  }

  /** Follows the room while the page is shown. The browser itself comes back with the number of the last message when a stream has ended. */
  listen() {
    this.rest(); // never two streams
    if (document.hidden) return;
    if (this.source) this.awaitStream();
    const source = this.source = new EventSource(this.streamed === null ? `${batchUrl}/stream` : `${batchUrl}/stream?after=${this.streamed}`);
    source.addEventListener("open", () => {
      clearTimeout(this.awayTimer);
      this.say("connected", "live");
      this.listenPauseMs = FIRST_PAUSE_MS;
      this.wake(); // the server answers again: what is unsent need not wait longer
    });
    source.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      const isNew = !this.shown.has(message.message_id);
      this.streamed = message.number;
      this.show(message);
      if (isNew && message.author !== page.author) this.onUnread();
    });
    source.addEventListener("verdicts", () => this.onVerdicts());
    source.addEventListener("error", () => this.lost(source));
  }

  awaitStream() {
    clearTimeout(this.awayTimer);
    this.awayTimer = setTimeout(() => this.say("reconnecting", "away"), PATIENCE_MS);
  }

  lost(source) {
    this.awaitStream();
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    source.close();
    this.listenPauseMs = Math.min(LONGEST_PAUSE_MS, 2 * (this.listenPauseMs ?? FIRST_PAUSE_MS));
    this.listenTimer = setTimeout(() => this.listen(), this.listenPauseMs);
    ask(`${batchUrl}/messages?before=1`).catch((refusal) => refusal.status === 401 && this.say("signed_out", "away"));
  }

  say(word, state) {
    clearTimeout(this.awayTimer);
    const place = byId("connection");
    place.textContent = say(word);
    place.dataset.state = state;
  }

  async fetchEarlier() {
    const height = this.scroller.scrollHeight;
    try {
      for (const message of await ask(`${batchUrl}/messages?before=${this.first}`)) this.show(message);
    } catch {
      return; // the button stays
    }
    this.scroller.scrollTop += this.scroller.scrollHeight - height;
  }
}

/** The form below the list. */
export function openComposer(room) {
  const form = byId("composer");
  const input = byId("message");
  if (!form || !input) return;
  const fit = () => {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight + 2, 180)}px`;
    const beyond = input.value.trim().length - LONGEST;
    byId("composer-fault").hidden = beyond <= 0;
    byId("composer-fault").textContent = beyond > 0 ? say("too_long", { count: beyond }) : "";
    form.querySelector("button").disabled = beyond > 0;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || text.length > LONGEST) return;
    room.send(text);
    input.value = "";
    fit();
  });
  input.addEventListener("input", fit);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

function standTogether(made) {
  const before = made.previousElementSibling;
  const follows = before && before.dataset.author === made.dataset.author && made.dataset.at - before.dataset.at < QUIET_S;
  made.classList.toggle("follows", Boolean(follows));
}

// What is unsent outlives the page: each message under a key of its own, so that two windows of one person never write over each other's.

const PREFIX = `dubmill-review/${page.author}/${page.batch}/`;

function keep(message) {
  try {
    localStorage.setItem(PREFIX + message.message_id, JSON.stringify(message));
  } catch {
    return; // no room or not allowed: it is kept as long as the page is open
  }
}

function unkeep(id) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    return;
  }
}

function kept() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.map((key) => JSON.parse(localStorage.getItem(key))).sort((one, other) => one.posted_at_s - other.posted_at_s);
  } catch {
    return [];
  }
}
