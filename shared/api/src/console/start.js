// Which place is shown, and the key.

const show = (focus = true) => {
  const at = placeOf(window.location.hash);
  const main = byId("main");
  if (at.view === "index" && at.tab === "search" && isCurrent(at) && current.again && (at.like || at.vector)) {
    current.again(at);
    return;
  }
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const done = at.view === "store" ? ((current = undefined), showStore(main)) : showIndex(main, at);
  done.then(() => {
    if (focus && !signal.aborted && !main.querySelector("[role=alert]")) main.querySelector("h1")?.focus();
  });
};

const start = () => {
  const [text, forget] = [byId("key"), byId("key-forget")];
  keyNow = stored()?.getItem(KEY) ?? "";
  const reflect = () => {
    text.placeholder = key() ? "in use" : "none";
    text.value = "";
    forget.hidden = key() === "";
  };
  const use = value => {
    setKey(value);
    reflect();
    announce(value ? "The key is in use" : "The key is forgotten");
    current = undefined;
    show(false);
  };
  byId("key-form").addEventListener(
    "submit",
    onSubmit(() => text.value.trim() && use(text.value.trim())),
  );
  forget.addEventListener("click", () => use(""));
  byId("skip").addEventListener(
    "click",
    onSubmit(() => byId("main").focus()),
  );
  window.addEventListener("hashchange", () => show());
  reflect();
  show(false);
  ask(ROUTES.version, {}).then(
    ({ body }) => {
      byId("about").append(` · ${body.Version}`);
    },
    () => {},
  );
};

if (typeof document !== "undefined") start();
