// The page of a batch: its list, the dub that is open, the room, and the keys.

import { ask, batchUrl, byId, say, toast } from "./page.js";
import { ItemView } from "./item.js";
import { openComposer, Room } from "./room.js";

const SAID = { approve: "approved", reject: "rejected", redo: "redone" };
const rows = [...document.querySelectorAll(".row")];
const panels = document.querySelector(".panels");

const keys = rows.map((row) => row.dataset.key);

const item = new ItemView({ onVerdict: () => refreshVerdicts() });
const room = new Room({ onVerdicts: () => refreshVerdicts(), onUnread: countUnread });
let unread = 0;
let current = -1;
let isStale = false; // somebody gave a verdict that is not on the list yet
let isRefreshing = false;

function openRow(index) {
  if (index < 0 || index >= rows.length || index === current) return;
  current = index;
  rows.forEach((row, one) => (one === index ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current")));
  rows[index].scrollIntoView({ block: "nearest" });
  const address = new URL(location.href);
  address.searchParams.set("item", rows[index].dataset.key);
  address.searchParams.delete("lang");
  history.replaceState(null, "", address);
  keepInLink(byId("other-language"), address);
  item.open(rows[index].dataset.key);
}

function keepInLink(link, address) {
  const there = new URL(link.href);
  for (const name of ["item", "page"]) if (address.searchParams.has(name)) there.searchParams.set(name, address.searchParams.get(name));
  link.href = there;
}

/** However many verdicts come meanwhile, one question follows the one that is on its way. */
async function refreshVerdicts() {
  isStale = true;
  if (isRefreshing) return;
  isRefreshing = true;
  try {
    while (isStale) {
      isStale = false;
      await Promise.all([item.refresh(), fetchVerdicts()]);
    }
  } finally {
    isRefreshing = false;
  }
}

async function fetchVerdicts() {
  try {
    const progress = await ask(`${batchUrl}/progress`, { keys });
    const byKey = new Map(progress.rows.map((row) => [row.key, row]));
    for (const row of rows) showVerdict(row, byKey.get(row.dataset.key));
    showProgress(progress.decided, progress.dubs);
  } catch (refusal) {
    toast(refusal.message);
  }
}

function showVerdict(row, known) {
  if (!known) return;
  row.dataset.verdict = known.verdict ?? "";
  const said = known.verdict ? say("given", { verdict: say(SAID[known.verdict]), author: known.author }) : "";
  row.querySelector(".state").textContent = known.settled ? `${said} · ${say("settled")}` : said;
}

function showProgress(done, all) {
  byId("progress").textContent = say("done_of", { done, all });
}

function showTab(name) {
  panels.dataset.tab = name;
  for (const button of document.querySelectorAll(".tabs button")) button.setAttribute("aria-pressed", button.dataset.tab === name);
  if (name === "room") {
    unread = 0;
    byId("unread").hidden = true;
    byId("messages-scroll").scrollTop = byId("messages-scroll").scrollHeight;
  }
}

function countUnread() {
  if (panels.dataset.tab === "room") return;
  unread += 1;
  byId("unread").textContent = unread > 99 ? "99+" : unread;
  byId("unread").hidden = false;
}

const KEYS = {
  j: () => openRow(current + 1),
  k: () => openRow(current - 1),
  " ": () => item.item && item.player.toggle(),
  m: () => item.nextMoment(),
  a: () => item.decide("approve"),
  r: () => item.decide("reject"),
  d: () => item.decide("redo"),
  "/": () => {
    showTab("room");
    byId("message")?.focus();
  },
  "?": () => byId("keys").showModal(),
  ArrowLeft: (event) => item.item && item.player.step(event.shiftKey ? -Math.round(item.item.fps) : -1),
  ArrowRight: (event) => item.item && item.player.step(event.shiftKey ? Math.round(item.item.fps) : 1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    if (event.key === "?" && dialog.id === "keys") dialog.close();
    return;
  }
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === " " && event.target.matches("button, a, summary")) return; // a button is pressed by it
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

rows.forEach((row, index) =>
  row.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openRow(index);
    showTab("item");
  }),
);
for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => showTab(button.dataset.tab));
byId("keys-button").addEventListener("click", () => byId("keys").showModal());

openComposer(room);
room.open();
showTab("item");
refreshVerdicts();
const wanted = new URL(location.href).searchParams.get("item"); // the server gives the page that lists it
if (!wanted) openRow(0);
else if (keys.includes(wanted)) openRow(keys.indexOf(wanted));
else item.showNone(say("not_listed"));
