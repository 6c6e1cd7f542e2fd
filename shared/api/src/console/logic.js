"use strict";
// What the console knows without a document: what to ask, and how to say what was answered. No function here touches
// the page or the network; shared/api-query/tests/http/console.rs runs them.

// Every route that the console knows, and the only place where it names one. A test holds them against the OpenAPI document.
const ROUTES = {
  version: "GET /_status/version",
  listDataSources: "GET /api/v1/data-sources",
  createDataSource: "PUT /api/v1/data-sources/{name}/{version}",
  describeDataSource: "GET /api/v1/data-sources/{name}/{version}",
  listIndices: "GET /api/v1/indices",
  createIndex: "PUT /api/v1/indices/{name}/{version}",
  describeIndex: "GET /api/v1/indices/{name}/{version}",
  points: "GET /api/v1/indices/{name}/{version}/points",
  sample: "POST /api/v1/indices/{name}/{version}/sample",
  statistics: "GET /api/v1/indices/{name}/{version}/statistics",
  recall: "POST /api/v1/indices/{name}/{version}/recall",
  upload: "POST /api/v1/upload/{name}/{version}",
  search: "POST /api/v1/search/{name}/{version}",
};

// Method, address relative to the page, and body of a request. Relative, so that the console works behind a proxy's prefix.
const requestOf = (route, id, query = {}, body) => {
  const [method, path] = route.split(" ");
  const filled = path.slice(1).replace(/\{(\w+)\}/g, (_, part) => encodeURIComponent(id[part]));
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  const text = pairs.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  return { method, url: filled + (text && "?" + text), body };
};

// JSON that the reader wrote goes out as it was written: no number in it passes through a float.
class Raw {
  constructor(text) {
    this.text = text;
  }
}
const bodyText = fields =>
  "{" +
  Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${JSON.stringify(name)}: ${value instanceof Raw ? value.text : JSON.stringify(value)}`)
    .join(", ") +
  "}";

// Whole numbers beyond what a float holds stay text; the API takes them back as that. Inside a string the quote would be escaped.
const parseJson = text => JSON.parse(text.replace(/("int64"\s*:\s*)(-?\d{16,})/g, '$1"$2"'));

const shellQuoted = text => "'" + text.replaceAll("'", "'\\''") + "'";
const curlOf = (base, { method, url, body }, withKey) =>
  [
    "curl" + (method === "GET" ? "" : ` -X ${method}`) + " " + shellQuoted(base + url),
    ...(withKey ? ['-H "X-Api-Key: $TARN_API_KEY"'] : []),
    ...(body === undefined ? [] : ["-H 'Content-Type: application/json'", "-d " + shellQuoted(body)]),
  ].join(" \\\n  ");

// What an empty store is to be told first.
const firstSteps = () => {
  const id = { name: "docs", version: "1.0" };
  const point = (name, lang, coordinates) => ({
    attributes: [
      { key: "id", value: { string: name } },
      { key: "lang", value: { string: lang } },
    ],
    vector: { isSparse: false, coordinates },
  });
  const step = (what, route, body) => ({ what, request: requestOf(route, id, {}, JSON.stringify(body)) });
  return [
    step("A data source says what points are: two coordinates here, identified by id.", ROUTES.createDataSource, {
      vectorDimension: 2,
      attributeValueTypes: { id: "String", lang: "String" },
      permanentAttributes: ["id"],
    }),
    step("An index says how to search them.", ROUTES.createIndex, {
      dataSourceId: id,
      indexAlgorithm: { type: "Tarn.Cosine" },
      idAttributes: ["id"],
    }),
    step("An upload is found as soon as it is answered.", ROUTES.upload, [
      point("a", "en", [1, 0.5]),
      point("b", "de", [0, 1]),
      point("c", "en", [0.9, 0.6]),
    ]),
  ];
};

// --- Places in the console: what stands after # ------------------------------------------------------------------------

const TABS = { search: "Search", points: "Points", statistics: "Statistics", structure: "Structure" };
const placeOf = hash => {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    return { view: "store" };
  }
  // A browser takes . and .. out of an address, encoded or not: the key would go to another place.
  const named = part => part && part !== "." && part !== "..";
  if (parts[0] !== "indices" || !named(parts[1]) || !named(parts[2])) return { view: "store" };
  return {
    view: "index",
    name: parts[1],
    version: parts[2],
    tab: Object.hasOwn(TABS, parts[3]) ? parts[3] : "search",
    ...likeOf(query),
  };
};
const likeOf = query => {
  const [, name, text] = /^(like|vector)=(.*)$/.exec(query) ?? [];
  try {
    return name ? { [name]: JSON.parse(decodeURIComponent(text)) } : {};
  } catch {
    return {};
  }
};
const hashOf = ({ name, version }, tab, like = {}) => {
  const [query] = Object.entries(like).map(([key, value]) => `?${key}=${encodeURIComponent(JSON.stringify(value))}`);
  return `#/indices/${encodeURIComponent(name)}/${encodeURIComponent(version)}/${tab}${query ?? ""}`;
};

// --- Values ------------------------------------------------------------------------------------------------------------

const PROPERTIES = { String: "string", Guid: "guid", Bool: "bool", Int64: "int64", Float64: "float64", DateTime: "dateTime" };
const textOf = value => {
  const [set] = Object.values(value ?? {});
  // An address may have anything here; not every object has a text.
  return set === undefined ? "" : typeof set === "object" ? JSON.stringify(set) : String(set);
};
const typesOf = attributes =>
  Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      Object.keys(PROPERTIES).find(type => Object.hasOwn(value, PROPERTIES[type])) ?? "String",
    ]),
  );
const valueOf = (key, type, text) => {
  const wrong = what => {
    throw new Error(`${key}: ${what} is wanted, such as ${{ Int64: "42", Float64: "0.5", Bool: "true" }[type]}`);
  };
  const trimmed = text.trim();
  switch (type) {
    case "Int64":
      if (!/^-?\d+$/.test(trimmed)) wrong("a whole number");
      return { int64: Number.isSafeInteger(Number(trimmed)) ? Number(trimmed) : trimmed };
    case "Float64":
      if (trimmed === "" || !Number.isFinite(Number(trimmed))) wrong("a number");
      return { float64: Number(trimmed) };
    case "Bool":
      if (!/^(true|false)$/i.test(trimmed)) wrong("true or false");
      return { bool: trimmed.toLowerCase() === "true" };
    case "Guid":
      return { guid: trimmed };
    case "DateTime":
      return { dateTime: trimmed };
    default:
      return { string: text };
  }
};
// Attributes of the fields that are filled in.
const attributesOf = (texts, types) =>
  Object.entries(texts)
    .filter(([, text]) => text !== "")
    .map(([key, text]) => ({ key, value: valueOf(key, types[key], text) }));

// Dense: numbers apart by commas or blanks. Sparse: index:value likewise. Either: JSON, as the API has it.
const vectorOf = (text, sparse, dimension) => {
  const trimmed = text.trim();
  let vector;
  if (trimmed.startsWith("{") || trimmed.startsWith("[")) {
    let json;
    try {
      json = JSON.parse(trimmed);
    } catch (error) {
      throw new Error(`The vector is no JSON: ${error.message}`);
    }
    vector = Array.isArray(json) ? { isSparse: false, coordinates: json } : { isSparse: sparse, ...json };
  } else {
    const words = trimmed.split(/[\s,;]+/).filter(Boolean);
    const pairs = words.map(word => (sparse ? word.split(":") : [undefined, word]));
    vector = {
      isSparse: sparse,
      coordinates: pairs.map(([, value]) => (value === undefined || value === "" ? NaN : Number(value))),
    };
    if (sparse) vector.coordinateIndices = pairs.map(([index]) => (/^\d+$/.test(index) ? Number(index) : NaN));
  }
  const { coordinates, coordinateIndices: indices } = vector;
  const numbers = list => Array.isArray(list) && list.every(Number.isFinite);
  if (vector.isSparse !== sparse)
    throw new Error(
      `The index is of ${sparse ? "sparse" : "dense"} vectors: write ${sparse ? "index:value pairs, such as 17:1 4031:0.5" : "numbers, such as 0.1, 0.2"}`,
    );
  if (!numbers(coordinates) || coordinates.length === 0 || (sparse && !numbers(indices)))
    throw new Error(
      sparse ? "A sparse vector is index:value pairs, such as 17:1 4031:0.5" : "A vector is numbers, such as 0.1, 0.2",
    );
  if (sparse && indices.length !== coordinates.length) throw new Error("Each coordinate wants one index");
  if (!sparse && dimension && coordinates.length !== dimension)
    throw new Error(`The vector has ${coordinates.length} coordinates; the index wants ${dimension}`);
  return vector;
};

const jsonOf = (what, text) => {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  try {
    JSON.parse(trimmed);
  } catch (error) {
    throw new Error(`${what} is no JSON: ${error.message}`);
  }
  return new Raw(trimmed);
};
const numberOf = (what, text) => {
  if (text.trim() === "") return undefined;
  const number = Number(text);
  if (!Number.isFinite(number)) throw new Error(`${what} is no number`);
  return number;
};

// The body of a search, from what stands in the form. Throws what the reader is to mend.
const searchOf = (form, { types, sparse, dimension }) => {
  const splits = attributesOf(form.splits, types);
  const like = form.by === "point" ? (form.picked ?? attributesOf(form.like, types)) : [];
  if (form.by === "point" && like.length === 0) throw new Error("Name a stored point, or paste a vector");
  return bodyText({
    queryVectors: form.by === "point" ? [] : [vectorOf(form.vector, sparse, dimension)],
    queryIds: form.by === "point" ? [like] : undefined,
    k: numberOf("k", form.k) ?? 10,
    splitFilter: splits.length ? splits : undefined,
    filter: jsonOf("The filter", form.filter),
    score: form.score || undefined,
    higherIsBetter: form.direction ? form.direction === "higher" : undefined,
    groupBy: form.groupBy || undefined,
    groupLimit: form.groupBy ? numberOf("Points of a group", form.groupLimit) : undefined,
    deadlineMs: numberOf("The deadline", form.deadlineMs),
    targetRecall: form.effort === "recall" ? numberOf("The recall", form.targetRecall) : undefined,
    exact: form.effort === "exact" ? true : undefined,
    consistency: form.consistency || undefined,
    asOf: numberOf("The generation", form.asOf),
    explain: form.explain ? true : undefined,
    retrieveVectors: false,
  });
};

// --- What was answered -------------------------------------------------------------------------------------------------

const count = number => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
const counted = (number, one, many = one + "s") => `${count(number)} ${number === 1 ? one : many}`;
const digits = number =>
  !Number.isFinite(number)
    ? "–"
    : number === 0
      ? "0"
      : Math.abs(number) >= 1e6 || Math.abs(number) < 1e-4
        ? number.toExponential(3)
        : String(Number(number.toPrecision(5)));
const bytesText = number => {
  let left = number,
    unit = 0;
  while (left >= 1000 && unit < 4) {
    left /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? left : left.toFixed(left < 10 ? 2 : left < 100 ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
};
const msText = ms => {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  for (const [unit, size] of [
    ["days", 864e5],
    ["h", 36e5],
    ["min", 6e4],
    ["s", 1e3],
  ])
    if (ms >= (unit === "s" ? size : 2 * size)) return `${Number((ms / size).toPrecision(3))} ${unit}`;
  return `${Number(ms.toPrecision(3))} ms`;
};
const dollarsText = dollars => (dollars === 0 ? "$0" : `$${Number((dollars * 1e6).toPrecision(3))} a million`);
// Rounded down: what is not all does not read as 100 %.
const percent = share => `${Math.floor(share * 1e4 + 1e-6) / 100} %`;
const freshness = ({ lagDeltas, lagMs }) =>
  lagDeltas === 0 ? "all built" : `${counted(lagDeltas, "upload")} to build, for ${msText(lagMs)}`;
const recallText = recall =>
  (recall ?? []).map(
    ({ filter, recall, queries }) =>
      `${percent(recall)}${filter === "none" ? "" : ` (${{ split: "split", filter: "filter", splitAndFilter: "split and filter" }[filter] ?? filter})`} of ${counted(queries, "query", "queries")}`,
  );

const METRICS = {
  "FaissIndex.L2": "squared L2",
  "FaissIndex.IP": "inner product",
  "Tarn.Cosine": "1 − cosine",
  "SparnnIndex.Cosine": "1 − cosine",
  "SparnnIndex.JaccardBinary": "Jaccard",
};
const scoresOf = algorithm =>
  ({ "SparnnIndex.Cosine": ["CosineSimilarity", "AngularDistance"], "SparnnIndex.JaccardBinary": [] })[algorithm] ?? [
    "VectorDistance",
    "QuickVectorDistance",
    "VectorMultiplication",
    "CosineSimilarity",
    "AngularDistance",
  ];

// Lengths of bars beside distances: 1 for the one farthest from zero.
const shares = distances => {
  const most = Math.max(0, ...distances.map(Math.abs));
  return distances.map(distance => (most === 0 ? 0 : Math.abs(distance) / most));
};

const PHASES = {
  snapshot: "finding what is current",
  open: "fetching whole files",
  outline: "reading outlines",
  cells: "reading cells",
  rows: "reading rows",
  search: "comparing",
  fetch: "attributes",
  rest: "everything else",
};
const serverTiming = header =>
  Object.fromEntries(
    (header ?? "")
      .split(",")
      .map(part => /^\s*([\w-]+)\s*;\s*dur=([\d.]+)/.exec(part))
      .filter(Boolean)
      .map(([, name, ms]) => [name, Number(ms)]),
  );
// Phases one below the other, each from where the one before ended. They may overlap in truth: then they are longer than the total.
const waterfall = milliseconds => {
  const lanes = Object.keys(PHASES)
    .filter(name => milliseconds[name] > 0)
    .map(name => ({ name, ms: milliseconds[name] }));
  const sum = lanes.reduce((sum, { ms }) => sum + ms, 0);
  const total = milliseconds.total ?? sum;
  if (total - sum > 0.0005) lanes.push({ name: "rest", ms: total - sum });
  const span = Math.max(total, sum);
  let start = 0;
  for (const lane of lanes) {
    Object.assign(lane, { from: span === 0 ? 0 : start / span, share: span === 0 ? 0 : lane.ms / span });
    start += lane.ms;
  }
  return { lanes, total, overlap: sum > total };
};
const planText = plan =>
  [
    plan.by,
    plan.ef && `${count(plan.ef)} candidates`,
    plan.nprobe && counted(plan.nprobe, "cell"),
    plan.rescored && `${counted(plan.rescored, "row")} rescored`,
    plan.ranges && counted(plan.ranges, "range"),
    plan.bytes && bytesText(plan.bytes),
    plan.capped && "capped: the recall may be lower",
  ]
    .filter(Boolean)
    .join(", ");

// Bins up to the last that has points, here or in an earlier histogram of the same bins; heights are shares of all points.
const histogramOf = (distances, earlier) => {
  const comparable = earlier && earlier.binWidth === distances.binWidth;
  const sum = bins => bins.reduce((sum, bin) => sum + bin, 0);
  const [all, before] = [sum(distances.bins), comparable ? sum(earlier.bins) : 0];
  const last = Math.max(
    0,
    distances.bins.findLastIndex(bin => bin > 0),
    comparable ? earlier.bins.findLastIndex(bin => bin > 0) : 0,
  );
  return distances.bins
    .slice(0, last + 1)
    .map((points, at) => ({
      from: at * distances.binWidth,
      to: (at + 1) * distances.binWidth,
      points,
      share: all ? points / all : 0,
      earlier: comparable && before ? earlier.bins[at] / before : undefined,
    }));
};

// What went wrong, and what the reader can do.
const troubleOf = (status, answer, hasKey) => {
  const messages = Array.isArray(answer?.errorMessages) ? answer.errorMessages.map(String) : [];
  const said = { messages, requestId: answer?.requestId };
  if (status === 0) return { title: "The server does not answer", hint: "Is it still running? Try again in a moment.", ...said };
  if (status === 401 && !hasKey)
    return {
      title: "This server wants an API key",
      hint: "Put one into the field at the top. To make one: tarn keys create --name console --grant 'read:*'",
      ...said,
    };
  if (status === 401)
    return {
      title: "The API key is not accepted",
      hint: "It is unknown, or was revoked. Put another one into the field at the top.",
      ...said,
    };
  if (status === 403)
    return { title: "The API key does not permit this", hint: "Whoever runs the store can make a key with that grant.", ...said };
  if (status === 404)
    return { title: "There is no such thing", hint: "It may have been deleted, or this server does not serve it.", ...said };
  if (status === 429 || status === 503)
    return { title: "The server is busy, or its store does not answer", hint: "Try again in a moment.", ...said };
  if (status >= 500) return { title: "The server failed", hint: "Its log has the cause under the request's id.", ...said };
  return { title: "The request cannot be answered", hint: "", ...said };
};
