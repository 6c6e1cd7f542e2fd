// One index: its heading and tabs, and what they share.

// What forms and tables need to know of an index. Its data source may be closed to the key: then points tell the types.
const know = async (id, known) => {
  const { body: description } = await ask(ROUTES.describeIndex, id, { splits: 100 });
  // A definition never changes.
  if (known) return { ...known, description };
  const { definition } = description;
  const algorithm = definition.indexAlgorithm.type;
  const splits = definition.splitAttributes ?? [];
  const index = {
    id,
    description,
    algorithm,
    splits,
    sparse: algorithm.startsWith("Sparnn"),
    permanent: [...new Set([...definition.idAttributes, ...splits])],
  };
  try {
    const source = (await ask(ROUTES.describeDataSource, definition.dataSourceId)).body.definition;
    Object.assign(index, {
      types: source.attributeValueTypes,
      permanent: source.permanentAttributes,
      dimension: source.vectorDimension,
    });
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    const { body: page } = await ask(ROUTES.points, id, { limit: 1 });
    index.types = typesOf([...description.splits, ...page.points].flatMap(({ attributes }) => attributes));
  }
  return index;
};

let current;
const isCurrent = ({ name, version }) => current?.index.id.name === name && current.index.id.version === version;
const showIndex = async (place, at) => {
  document.title = `${at.name} ${at.version} · Tarn`;
  const known = isCurrent(at) ? current.index : undefined;
  const [body, { signal }] = [el("div"), shown];
  current = undefined;
  await fill(place, `Reading ${at.name} ${at.version}…`, async () => {
    const index = await know({ name: at.name, version: at.version }, known);
    if (signal.aborted) return undefined;
    current = { index };
    const { description } = index;
    const tabs = el(
      "nav",
      { class: "tabs", "aria-label": "Of this index" },
      Object.entries(TABS).map(([tab, text]) =>
        el("a", { href: hashOf(index.id, tab), "aria-current": tab === at.tab && "page" }, text),
      ),
    );
    return [
      el("h1", { tabindex: "-1" }, index.id.name, " ", el("small", {}, index.id.version, " · ", index.algorithm)),
      facts([
        ["Points", count(description.dataPointsCount)],
        [
          "Generation",
          description.generation === 0 ? "never built" : description.generation,
          description.publishedMs && new Date(description.publishedMs).toLocaleString(),
        ],
        [
          "Freshness",
          description.lagDeltas === 0 ? "all built" : msText(description.lagMs),
          description.lagDeltas > 0 && `${counted(description.lagDeltas, "upload")} to build; searches see them`,
        ],
        ["Bytes of segments", bytesText(description.segmentBytes)],
        description.recall?.length && [
          "Recall observed",
          percent(description.recall[0].recall),
          recallText(description.recall).join("; "),
        ],
      ]),
      tabs,
      body,
    ];
  });
  if (body.isConnected)
    ({ search: showSearch, points: showPoints, statistics: showStatistics, structure: showStructure })[at.tab](
      body,
      current.index,
      at,
    );
};

// Fields that choose points: of splits and a filter. `read` throws what is to be mended.
const restriction = index => {
  const known = key => [
    ...new Set(
      index.description.splits.flatMap(({ attributes }) => attributes.filter(a => a.key === key).map(a => textOf(a.value))),
    ),
  ];
  const splits = Object.fromEntries(index.splits.map(key => [key, input({ placeholder: "any" })]));
  const filter = area({ placeholder: '{"eq": {"key": "lang", "value": "en"}}', class: "mono" });
  const lists = index.splits.map(key => {
    const list = el(
      "datalist",
      { id: `values-${(fields += 1)}` },
      known(key)
        .slice(0, 100)
        .map(value => el("option", { value })),
    );
    splits[key].setAttribute("list", list.id);
    return list;
  });
  const texts = () => Object.fromEntries(Object.entries(splits).map(([key, control]) => [key, control.value]));
  return {
    fields: [
      Object.entries(splits).map(([key, control]) => field(`Split: ${key}`, control, index.types[key])),
      lists,
      field("Filter (JSON)", filter, "and or not eq ne lt lte gt gte in notIn exists startsWith, over any attribute", true),
    ],
    texts,
    filter: () => filter.value,
    read: () => {
      const split = attributesOf(texts(), index.types);
      return { splitFilter: split.length ? JSON.stringify(split) : undefined, filter: jsonOf("The filter", filter.value)?.text };
    },
  };
};

// By attribute; others stand between those that name a point and the rest, where a narrow screen shows them, too.
const valueColumns = rows =>
  [...new Set(rows.flatMap(({ attributes }) => attributes.map(({ key }) => key)))].map(key => [
    key,
    ({ attributes }) => textOf(attributes.find(attribute => attribute.key === key)?.value),
  ]);
const columnsOf = (index, points, between = []) => {
  const columns = valueColumns(points);
  const names = ([key]) => index.permanent.includes(key);
  return [
    ...columns.filter(names),
    ...between,
    [unseen("Go on"), point => likeLink(index, point), "go"],
    ...columns.filter(column => !names(column)),
  ];
};
const permanentOf = (index, attributes) => attributes.filter(({ key }) => index.permanent.includes(key));
const likeLink = (index, { attributes }) =>
  el(
    "a",
    {
      href: hashOf(index.id, "search", { like: permanentOf(index, attributes) }),
      "aria-label": `More like ${attributes
        .map(({ value }) => textOf(value))
        .slice(0, 2)
        .join(", ")}`,
    },
    "More like this",
  );
const onSubmit = work => event => {
  event.preventDefault();
  work();
};
