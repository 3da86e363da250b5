// What every script of the page shares: its data, its words, and how elements are made. Text only ever goes in as text.

export const page = JSON.parse(document.getElementById("page-data").textContent);
export const batchUrl = `${page.base}/batches/${encodeURIComponent(page.batch)}`;

export const byId = (id) => document.getElementById(id);

/** A sentence in the page's language, its {names} filled in. */
export function say(name, values = {}) {
  return page.words[name].replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

/** An element with attributes (those that are null are left out) and children, which are elements or text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** An id that no one else has, also on pages without TLS, where crypto.randomUUID is absent. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function whenText(seconds) {
  const when = new Date(seconds * 1000);
  const sameDay = when.toDateString() === new Date().toDateString();
  return when.toLocaleString(page.language, sameDay ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

export function clockText(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

export const percent = (share) => `${Math.round(100 * share)}%`;

let toastTimer = 0;

/** Says something in passing. */
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.classList.remove("shown"), 3500);
}

/** What the server answers to JSON; throws a Refusal with its sentence, or with status 0 where there is no answer. */
export async function ask(url, body) {
  let answer;
  try {
    const sent = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    answer = await fetch(url, { ...sent, headers: { Accept: "application/json", ...sent.headers }, signal: AbortSignal.timeout(30000) });
  } catch {
    throw new Refusal(0, say("network"), 0);
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said !== null) return said;
  const detail = typeof said?.detail === "string" ? said.detail : "";
  throw new Refusal(answer.ok ? 0 : answer.status, detail || say("network"), Number(answer.headers.get("Retry-After")) || 0);
}

export class Refusal extends Error {
  constructor(status, sentence, waitS) {
    super(sentence);
    this.status = status;
    this.waitS = waitS;
  }

  /** Whether the same may be taken later: no answer, a server that is not well, or too much at once. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}
