// What there is: indices, data sources, and what an empty store is told.

// A list, page after page; each entry is shown at once, and what it is described as once that is known.
const listing = (title, route, entriesOf, columns, described, describe) => {
  const body = el("tbody");
  const foot = el("p");
  const holder = el("section", { "aria-label": title }, el("h2", {}, title));
  const cells = new Map();
  const more = async after => {
    const { body: page } = await ask(route, {}, { limit: PAGE, after });
    const entries = entriesOf(page);
    if (!after && entries.length === 0) {
      holder.append(quiet("None that may be read."));
      return 0;
    }
    if (!after) holder.append(wide(title, el("table", {}, head([...columns, ...described]), body)), foot);
    for (const entry of entries) {
      const places = described.map(([, , kind]) => el("td", { class: kind }, el("span", { class: "waiting" }, "…")));
      cells.set(entry, places);
      const row = line(columns, entry);
      row.append(...places);
      body.append(row);
    }
    const next = event => {
      event.target.disabled = true;
      more(page.next).catch(error => put(foot, troubleBox(error)));
    };
    put(foot, page.next && button("More", next));
    announce(`${title}: ${counted(body.children.length, "row")}${page.next ? ", and more" : ""}`);
    const { signal } = shown;
    fewAtOnce(entries, async entry => {
      try {
        (await describe(entry)).forEach((text, at) => put(cells.get(entry)[at], text));
      } catch (error) {
        if (!signal.aborted) cells.get(entry).forEach((cell, at) => put(cell, at === 0 && (error.title ?? "–")));
      }
    });
    return entries.length;
  };
  return { holder, more };
};

const showStore = async place => {
  document.title = "Tarn";
  const indices = listing(
    "Indices",
    ROUTES.listIndices,
    page => page.indices,
    [
      ["Index", ({ id }) => indexLink(id)],
      ["Algorithm", ({ definition }) => definition.indexAlgorithm.type],
      ["Data source", ({ definition }) => `${definition.dataSourceId.name} ${definition.dataSourceId.version}`],
    ],
    [["Points", , "n"], ["Generation", , "n"], ["Freshness"], ["Bytes", , "n"], ["Recall observed"]],
    async ({ id }) => {
      const { body } = await ask(ROUTES.describeIndex, id, { splits: 0 });
      return [
        count(body.dataPointsCount),
        body.generation === 0 ? "never built" : body.generation,
        freshness(body),
        bytesText(body.segmentBytes),
        body.recall?.length ? recallText(body.recall).map(text => el("div", {}, text)) : el("span", { class: "quiet" }, "–"),
      ];
    },
  );
  const sources = listing(
    "Data sources",
    ROUTES.listDataSources,
    page => page.dataSources,
    [
      ["Data source", ({ id }) => [`${id.name} `, el("span", { class: "quiet" }, id.version)]],
      ["Vectors", ({ definition }) => `${definition.vectorsAreSparse ? "sparse" : "dense"}, ${definition.vectorDimension}`],
      [
        "Attributes",
        ({ definition }) =>
          Object.entries(definition.attributeValueTypes)
            .map(([key, type]) => `${key} ${type}`)
            .join(", "),
        "long",
      ],
    ],
    [["Points folded", , "n"], ["Head", , "n"], ["Indices"]],
    async ({ id }) => {
      const { body } = await ask(ROUTES.describeDataSource, id);
      return [
        body.checkpoint ? count(body.checkpoint.dataPointsCount) : "none yet",
        body.head,
        body.indices.map((index, at) => [at ? ", " : "", indexLink(index)]).flat(),
      ];
    },
  );
  await fill(place, "Reading the store…", async () => {
    const [found, sourcesFound] = [await indices.more(), await sources.more()];
    const heading = el("h1", { tabindex: "-1" }, "Store");
    if (found + sourcesFound === 0) return [heading, emptyStore()];
    return [
      heading,
      quiet("Data sources hold points; indices over them answer searches. Choose an index to look into it."),
      indices.holder,
      sources.holder,
    ];
  });
};

const base = () => window.location.href.replace(/[?#].*$/, "").replace(/[^/]*$/, "");
const emptyStore = () =>
  el(
    "section",
    { class: "sheet" },
    el("h2", {}, key() ? "Nothing here that this key may read" : "The store is empty"),
    el("p", {}, "Three requests make something to look at; then load this page again."),
    firstSteps().map(({ what, request }, at) => [
      el("h3", {}, `${at + 1}. ${what}`),
      copyable(curlOf(base(), request, key() !== "")),
    ]),
    el("p", {}, "Or fill a store with real packages, and serve that: ", el("code", {}, "tarn demo"), "."),
  );
