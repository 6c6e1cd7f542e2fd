"use strict";
// As much of a browser as the console uses, and no way to make markup of text: an element has no innerHTML here.

class Text {
  constructor(text) { this.textContent = text; }
}

class Element {
  constructor(tag) { Object.assign(this, { tag, parent: null, children: [], attributes: {}, listeners: {} }); Object.preventExtensions(this); }
  get id() { return this.attributes.id ?? ""; }
  set id(id) { this.attributes.id = id; }
  get isConnected() { return this === document.body || (this.parent?.isConnected ?? false); }
  get textContent() { return this.children.map(child => child.textContent).join(""); }
  set textContent(text) { this.replaceChildren(String(text)); }
  append(...added) {
    for (const child of added) {
      if (!(child instanceof Element) && typeof child !== "string" && typeof child !== "number") throw new TypeError(`<${this.tag}> is given ${child}`);
      const node = child instanceof Element ? child : new Text(String(child));
      if (node instanceof Element) node.parent = this;
      this.children.push(node);
    }
  }
  replaceChildren(...added) {
    for (const child of this.children) if (child instanceof Element) child.parent = null;
    this.children.length = 0;
    this.append(...added);
  }
  setAttribute(name, value) {
    if (/^on/i.test(name) || name === "style" || !/^[\w-]+$/.test(name)) throw new TypeError(`the page sets ${name}`);
    this.attributes[name] = String(value);
  }
  addEventListener(type, listener) { this.listeners[type] = listener; }
  dispatch(type) { return this.listeners[type]?.({ target: this, preventDefault() {} }); }
  querySelector(selector) {
    const [, attribute, value] = /^\[(\w+)=(\w+)\]$/.exec(selector) ?? [];
    return all(this).find(it => attribute ? it.attributes[attribute] === value : it.tag === selector) ?? null;
  }
  focus() { document.focused = this; }
  scrollIntoView() {}
  // Of controls: an attribute until somebody sets the property.
  get value() { return this.attributes["=value"] ?? this.attributes.value ?? (this.tag === "select" ? this.children[0].attributes.value : ""); }
  set value(value) { this.attributes["=value"] = String(value); }
  get placeholder() { return this.attributes.placeholder; }
  set placeholder(text) { this.attributes.placeholder = text; }
}
for (const name of ["hidden", "checked", "disabled"])
  Object.defineProperty(Element.prototype, name, {
    get() { return this.attributes[name] !== undefined; },
    set(on) { if (on) this.attributes[name] = ""; else delete this.attributes[name]; },
  });

const all = element => element.children.filter(child => child instanceof Element).flatMap(child => [child, ...all(child)]);

const document = {
  title: "",
  focused: undefined,
  body: new Element("body"),
  createElement: tag => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
  getElementById: id => all(document.body).find(element => element.id === id) ?? null,
};

const window = {
  location: { hash: "", href: "http://tarn.test/" },
  listeners: {},
  addEventListener(type, listener) { this.listeners[type] = listener; },
  sessionStorage: {
    items: {},
    getItem(name) { return this.items[name] ?? null; },
    setItem(name, value) { this.items[name] = value; },
    removeItem(name) { delete this.items[name]; },
  },
};
const navigator = { clipboard: { writeText: async text => { navigator.copied = text; } } };
const faults = [];
const console = { error: error => faults.push(`${error}\n${error?.stack}`) };

class AbortController {
  constructor() { this.signal = { aborted: false }; }
  abort() { this.signal.aborted = true; }
}

// Requests wait here until the test has had them answered.
const asked = [];
const waits = [];
const fetch = (url, { method, headers, body, signal }) => new Promise((resolve, reject) => {
  if (signal.aborted) return reject(Object.assign(new Error("aborted"), { name: "AbortError" }));
  waits.push(resolve);
  asked.push({ at: waits.length - 1, url, method, headers, body });
});
const taken = () => JSON.stringify(asked.splice(0));
const answered = (at, status, headers, text) => waits[at]({
  ok: status >= 200 && status < 300, status, text: async () => text, headers: { get: name => headers[name.toLowerCase()] ?? null },
});

// An element of the page itself.
const grown = id => {
  const made = document.createElement("div");
  made.id = id;
  document.body.append(made);
};

// --- What a reader does ------------------------------------------------------------------------------------------------

const main = () => document.getElementById("main");
const go = hash => { window.location.hash = hash; window.listeners.hashchange?.(); };
const shownIn = (tag, text) => all(document.body).filter(element => element.tag === tag && element.textContent.includes(text));
const only = (tag, text) => {
  const found = shownIn(tag, text);
  if (found.length !== 1) throw new Error(`${found.length} <${tag}> with ${text} in ${main().textContent}`);
  return found[0];
};
const press = text => only("button", text).dispatch("click");
const follow = link => go(link.attributes.href);
const control = label => document.getElementById(only("label", label).attributes.for);
const type = (label, text) => { const it = control(label); it.value = text; it.dispatch("input"); it.dispatch("change"); };
const submit = () => main().querySelector("form").dispatch("submit");
const rows = () => shownIn("table", "More like this").flatMap(table => all(table).filter(element => element.tag === "tr").slice(1))
  .map(row => row.children.map(cell => cell.textContent));
