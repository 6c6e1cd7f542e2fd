// Elements, and requests. Data goes into the page as text and attributes only: values are whatever somebody uploaded.

const KEY = "tarn-api-key";
const PAGE = 20;
const byId = id => document.getElementById(id);

// --- Elements ----------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const grow = (made, properties, children) => {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter(child => child !== undefined && child !== null && child !== false));
  return made;
};
const put = (place, ...children) => {
  place.replaceChildren();
  return grow(place, {}, children);
};
const el = (tag, properties = {}, ...children) => grow(document.createElement(tag), properties, children);
const svg = (tag, properties = {}, ...children) => grow(document.createElementNS(SVG, tag), properties, children);

const facts = pairs =>
  el(
    "dl",
    { class: "facts" },
    pairs
      .filter(Boolean)
      .map(([name, value, note]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, note && el("small", {}, note)))),
  );
// Columns are [title, what of a row, class]; "n" is of numbers. The first column heads its row.
const table = (caption, columns, rows) =>
  wide(
    caption,
    el(
      "table",
      {},
      el("caption", {}, caption),
      head(columns),
      el(
        "tbody",
        {},
        rows.map(row => line(columns, row)),
      ),
    ),
  );
const wide = (label, ...children) => el("div", { class: "wide", role: "region", "aria-label": label, tabindex: "0" }, children);
const head = columns =>
  el(
    "thead",
    {},
    el(
      "tr",
      {},
      columns.map(([title, , kind]) => el("th", { scope: "col", class: kind }, title)),
    ),
  );
const line = (columns, row) =>
  el(
    "tr",
    {},
    columns.map(([, cell, kind], at) => el(at ? "td" : "th", { scope: !at && "row", class: kind }, cell(row) ?? "")),
  );
const unseen = text => el("span", { class: "hidden" }, text);
const bar = (share, name = "fill") =>
  svg(
    "svg",
    { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 8, rx: 2 }),
    svg("rect", { class: name, width: Math.max(share * 100, share > 0 ? 1 : 0), height: 8, rx: 2 }),
  );
const copyable = text => {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
      announce("Copied");
    } catch {
      copy.textContent = "Select it";
      announce("The browser does not let the page copy; select the text");
    }
  });
  return el("div", { class: "copy" }, el("pre", {}, el("code", {}, text)), copy);
};
const quiet = text => el("p", { class: "quiet" }, text);
const button = (text, click, kind) => el("button", { type: click ? "button" : "submit", click, class: kind }, text);
const folded = (title, ...children) => el("details", {}, el("summary", {}, title), children);
const announce = text => {
  byId("announce").textContent = text;
};
const waiting = what => el("p", { class: "waiting" }, what);
const indexLink = (id, tab = "search") =>
  el("a", { href: hashOf(id, tab) }, `${id.name} `, el("span", { class: "quiet" }, id.version));

let fields = 0;
const field = (label, control, note, all) => {
  control.id ||= `field-${(fields += 1)}`;
  if (note) control.setAttribute("aria-describedby", control.id + "-note");
  return el(
    "div",
    { class: all ? "field all" : "field" },
    el("label", { for: control.id }, label),
    control,
    note && el("small", { id: control.id + "-note" }, note),
  );
};
const input = (properties = {}) => el("input", { type: "text", spellcheck: "false", autocomplete: "off", ...properties });
const area = (properties = {}) => el("textarea", { spellcheck: "false", rows: 2, ...properties });
const select = options =>
  el(
    "select",
    {},
    options.map(([value, text]) => el("option", { value }, text)),
  );
const tick = (label, checked) => {
  const box = el("input", { type: "checkbox", checked });
  return [box, el("label", { class: "choice" }, box, label)];
};

// --- Requests ----------------------------------------------------------------------------------------------------------

class Trouble extends Error {
  constructor(status, answer) {
    const it = troubleOf(status, answer, key() !== "");
    super(it.title);
    Object.assign(this, it, { status });
  }
}
const stored = () => {
  try {
    return window.sessionStorage;
  } catch {
    return undefined;
  }
};
let keyNow = "";
const key = () => keyNow;
const setKey = text => {
  keyNow = text;
  if (text) stored()?.setItem(KEY, text);
  else stored()?.removeItem(KEY);
};

// The requests of what is shown; those of what was shown before are given up.
let shown = new AbortController();
const send = async request => {
  const headers = {};
  if (key()) headers["X-Api-Key"] = key();
  if (request.body !== undefined) headers["Content-Type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(request.url, {
      method: request.method,
      headers,
      body: request.body,
      signal: shown.signal,
      cache: "no-store",
      credentials: "same-origin",
    });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0);
  }
  let body;
  try {
    body = text ? parseJson(text) : undefined;
  } catch {
    body = undefined;
  }
  if (!answer.ok || body === undefined) throw new Trouble(answer.ok ? 500 : answer.status, body);
  return { body, headers: answer.headers };
};
const ask = (route, id, query, body) => send(requestOf(route, id, query, body));

const troubleBox = error => {
  // Plain errors are what the reader is to mend; others are faults of this script.
  if (error.constructor !== Error && !(error instanceof Trouble)) console.error(error);
  const said = error instanceof Trouble ? error : { title: "This is to be mended first", messages: [error.message] };
  const { title, messages, hint, requestId } = said;
  return el(
    "div",
    { class: "bad", role: "alert" },
    el("strong", {}, title),
    messages.map(text => el("p", {}, text)),
    hint && quiet(hint),
    requestId && el("p", {}, el("small", {}, `Request ${requestId}`)),
  );
};
// Fills a place with what a promise makes, or with what went wrong. What is not shown any more stays quiet.
const fill = async (place, what, make) => {
  const { signal } = shown;
  put(place, waiting(what));
  try {
    const made = await make();
    if (!signal.aborted) put(place, made);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    put(place, troubleBox(error));
    if (error.status === 401) byId("key").focus();
  }
};
// At most four at once: a store behind a function answers each from a cold start.
const fewAtOnce = async (items, work) => {
  const [queue, { signal }] = [[...items], shown];
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      while (queue.length && !signal.aborted) await work(queue.shift());
    }),
  );
};
