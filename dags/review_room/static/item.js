// One dub: what is known of it, and what people decide of it.

import { ask, batchUrl, byId, clockText, element, newId, page, percent, say, toast, whenText } from "./page.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";

const SAID = { approve: "approved", reject: "rejected", redo: "redone" };

export class ItemView {
  constructor({ onVerdict }) {
    this.onVerdict = onVerdict;
    this.timeline = new Timeline({ onSeek: (timeS) => this.player.seek(timeS) });
    this.player = new Player({ onTime: (timeS) => this.timeline.point(timeS) });
    byId("next-moment").addEventListener("click", () => this.nextMoment());
    for (const button of document.querySelectorAll(".verdict button[data-verdict]")) {
      button.addEventListener("click", () => this.decide(button.dataset.verdict));
    }
    byId("redo-form")?.addEventListener("submit", (event) => this.sendRedo(event));
    byId("redo-cancel")?.addEventListener("click", () => byId("redo").close());
  }

  async open(key) {
    this.key = key;
    this.item = null; // what stands on the page is of the one before, and nothing is decided of it any more
    byId("item").setAttribute("aria-busy", "true");
    const url = `${batchUrl}/items/${encodeURIComponent(key)}`;
    try {
      const item = await ask(url);
      if (this.key !== key) return; // another one was opened meanwhile
      this.show(item, url);
    } catch (refusal) {
      if (this.key === key) this.showNone(refusal.status === 404 ? say("no_item") : refusal.message);
    }
  }

  showNone(sentence) {
    this.item = null;
    this.player.pause();
    byId("item").hidden = true;
    byId("item-empty").hidden = false;
    byId("item-empty").textContent = sentence;
  }

  show(item, url) {
    this.item = item;
    this.moment = -1;
    byId("item").setAttribute("aria-busy", "false");
    byId("item").hidden = false;
    byId("item-empty").hidden = true;
    byId("item-name").textContent = item.job_id;
    byId("item-facts").textContent = `${say("risk")} ${percent(item.risk)} · ${clockText(item.duration_s)} · ${Number(item.fps.toFixed(2))} fps`;
    byId("item-gate").dataset.status = item.gate.status;
    byId("item-gate").replaceChildren(element("strong", {}, say(`gate_${item.gate.status}`)), " ", item.gate.sentence);
    const approve = document.querySelector(".verdict button[data-verdict=approve]");
    if (approve) {
      approve.disabled = !item.approvable;
      approve.title = item.approvable ? "" : say("not_approvable");
    }
    this.player.load({ dub: `${url}/dub.mp4`, source: `${url}/source.mp4`, fps: item.fps, durationS: item.duration_s });
    this.timeline.load(item);
    this.showMoments(item);
    this.showMetrics(item.metrics);
    showPairs(byId("settings"), item.settings);
    showPairs(byId("models"), item.models);
    this.showHistory(item.verdicts);
    const note = byId("verdict-note");
    if (note) note.value = "";
    byId("panel-item").scrollTop = 0;
    const worst = item.moments[0];
    if (worst) this.player.seek(worst.start_s); // where to look first
  }

  showMoments(item) {
    const lines = item.moments.map((moment, index) => this.stretch(moment, say("confidence", { share: percent(moment.confidence) }), index));
    byId("moments").replaceChildren(...(lines.length ? lines : [element("li", { class: "soft" }, say("no_moments"))]));
    byId("passed").replaceChildren(...item.passed_through.map((passage) => this.stretch(passage, "", null)));
    byId("passed-section").hidden = !item.passed_through.length;
    byId("next-moment").disabled = !item.moments.length;
  }

  stretch(moment, beside, index) {
    const when = element("span", { class: "number" }, `${clockText(moment.start_s)} – ${clockText(moment.end_s)}`);
    const button = element("button", { type: "button", class: "stretch" }, when, element("span", {}, moment.reason), element("span", { class: "soft" }, beside));
    button.addEventListener("click", () => {
      if (index !== null) this.moment = index;
      this.goTo(moment);
    });
    return element("li", {}, button);
  }

  /** The moments one after the other, the worst first. */
  nextMoment() {
    if (!this.item?.moments.length) return;
    this.moment = (this.moment + 1) % this.item.moments.length;
    this.goTo(this.item.moments[this.moment]);
  }

  goTo({ start_s }) {
    this.player.pause();
    this.player.seek(start_s);
    [...byId("moments").children].forEach((line, index) => line.classList.toggle("current", index === this.moment));
  }

  showMetrics(metrics) {
    const rows = metrics.map((metric) => {
      const value = metric.value === null ? element("td", { class: "absent", colspan: 2 }, say("absent", { reason: metric.reason })) : null;
      const numbers = [metric.value, metric.real_video].map((one) => element("td", { class: "number" }, one === null ? "–" : numberText(one, metric.unit)));
      return element("tr", {}, element("td", { class: "metric" }, metric.name), ...(value ? [value] : numbers), element("td", { class: "meaning soft" }, metric.meaning));
    });
    byId("metrics").tBodies[0].replaceChildren(...rows);
    byId("metrics").closest("section").hidden = !rows.length;
  }

  showHistory(verdicts) {
    const lines = verdicts.map((given) => {
      const said = say("given", { verdict: say(SAID[given.verdict]), author: given.author });
      const line = element("li", { "data-verdict": given.verdict }, element("strong", {}, said), " ", element("time", {}, whenText(given.given_at_s)));
      const changes = Object.entries(given.settings).map(([name, value]) => `${name}: ${valueText(value)}`);
      for (const text of [changes.join(", "), given.note, given.settled ? say("settled") : ""]) if (text) line.append(element("span", { class: "soft" }, ` · ${text}`));
      if (!isOf(given, this.item)) line.append(element("span", { class: "soft" }, ` · ${say("of_former_dub")}`));
      return line;
    });
    byId("history").replaceChildren(...lines);
    const counts = verdicts.find((given) => isOf(given, this.item))?.verdict;
    for (const button of document.querySelectorAll(".verdict button[data-verdict]")) button.setAttribute("aria-pressed", button.dataset.verdict === counts);
  }

  /** Somebody gave a verdict, perhaps on this one. */
  async refresh() {
    if (!this.item) return;
    const shown = this.item;
    const verdicts = await ask(`${batchUrl}/items/${encodeURIComponent(shown.key)}`).then((item) => item.verdicts, () => null);
    if (verdicts && this.item === shown) this.showHistory(verdicts);
  }

  decide(verdict) {
    if (!page.writes || this.item?.key !== this.key) return; // not the one that is open, or not there yet
    if (verdict === "approve" && !this.item.approvable) toast(say("not_approvable"));
    else if (verdict === "redo") this.openRedo();
    else this.give(verdict, {}).catch((refusal) => toast(say("not_saved", { reason: refusal.message })));
  }

  async give(verdict, settings) {
    const { key, fingerprint, version } = this.item;
    const note = byId("verdict-note").value.trim();
    await ask(`${batchUrl}/items/${encodeURIComponent(key)}/verdicts`, { verdict_id: newId(), fingerprint, version, verdict, settings, note });
    if (this.item?.key === key) byId("verdict-note").value = "";
    toast(say(`said_${verdict}`));
    this.onVerdict();
  }

  openRedo() {
    byId("redo-fields").replaceChildren(...this.item.redo.map(fieldOf));
    complain("");
    byId("redo").showModal();
  }

  async sendRedo(event) {
    event.preventDefault();
    const settings = {};
    for (const field of this.item.redo) {
      const value = valueIn(field, byId(`redo-${field.name}`));
      if (value !== null && value !== field.value) settings[field.name] = value;
    }
    if (!Object.keys(settings).length) return complain(say("redo_nothing"));
    try {
      await this.give("redo", settings);
      byId("redo").close();
    } catch (refusal) {
      complain(refusal.message);
    }
  }
}

function complain(sentence) {
  byId("redo-fault").textContent = sentence;
  byId("redo-fault").hidden = !sentence;
}

function fieldOf(field) {
  const id = `redo-${field.name}`;
  const explained = field.help ? element("small", { class: "soft", id: `${id}-help` }, field.help) : "";
  return element("div", { class: "field" }, element("label", { for: id }, field.label), inputOf(field, id), explained);
}

function inputOf(field, id) {
  const shared = { id, "aria-describedby": field.help ? `${id}-help` : null };
  if (field.kind === "switch") return element("input", { ...shared, type: "checkbox", checked: field.value === true });
  if (field.kind === "choice") {
    const options = field.choices.map((choice) => element("option", { value: choice, selected: choice === field.value }, choice));
    return element("select", shared, ...options);
  }
  return element("input", { ...shared, type: "number", min: field.lowest, max: field.highest, step: field.kind === "whole" ? 1 : "any", value: field.value });
}

function valueIn(field, input) {
  if (field.kind === "switch") return input.checked;
  if (field.kind === "choice") return input.value;
  return input.value === "" ? null : Number(input.value);
}

function showPairs(list, pairs) {
  const parts = Object.entries(pairs).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, valueText(value))]);
  list.replaceChildren(...parts);
  list.closest("section").hidden = !parts.length;
}

function valueText(value) {
  if (typeof value === "boolean") return say(value ? "yes" : "no");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function numberText(value, unit) {
  return `${Number(value).toLocaleString(page.language, { maximumFractionDigits: 3 })}${unit ? ` ${unit}` : ""}`;
}

/** Whether a verdict is of this very dub, and not of one that was made anew since. */
function isOf(given, item) {
  return given.fingerprint === item.fingerprint && given.version === item.version;
}
