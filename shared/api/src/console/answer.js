// The answer to a search: found points, how complete it is, and its receipt.

const answerOf = (index, request, answer, headers, score) => {
  const [{ nearestDataPoints: points, groups, groupsComplete, receipt }] = answer;
  const coverage = Number(headers.get("Tarn-Coverage") ?? 1);
  const milliseconds = receipt?.milliseconds ?? serverTiming(headers.get("Server-Timing"));
  const summary = `${counted(points.length, "point")}${groups ? ` in ${counted(groups.length, "group")}` : ""}${milliseconds.total === undefined ? "" : ` in ${msText(milliseconds.total)}`}`;
  announce(summary + (coverage < 1 ? `, coverage ${percent(coverage)}` : ""));
  const long = shares(points.map(({ distance }) => distance));
  const columns = [
    ["#", ({ at }) => at + 1],
    ...columnsOf(index, points, [
      [score || METRICS[index.algorithm] || "distance", ({ distance }) => digits(distance), "n"],
      [unseen("The same as a bar"), ({ at }) => bar(long[at]), "meter"],
    ]),
  ];
  const rows = [];
  let at = 0;
  for (const group of groups ?? [{ count: points.length }]) {
    if (groups)
      rows.push(
        el(
          "tr",
          { class: "group" },
          el(
            "th",
            { colspan: columns.length, scope: "rowgroup" },
            `${textOf(group.value)} `,
            el("span", { class: "quiet" }, `${digits(group.score)} · ${counted(group.count, "point")}`),
          ),
        ),
      );
    for (let end = at + group.count; at < end && at < points.length; at += 1) rows.push(line(columns, { ...points[at], at }));
  }
  return [
    el("h2", {}, summary),
    coverage < 1 &&
      el(
        "div",
        { class: "warn" },
        el("strong", {}, `Partial: ${percent(coverage)} of the live rows were considered`),
        el("p", {}, "The deadline struck. Nearer points may be among the rest."),
      ),
    groupsComplete === false &&
      el(
        "div",
        { class: "warn" },
        el("strong", {}, "There may be more groups, or more points in one"),
        el("p", {}, "The search ended before it knew that all were found."),
      ),
    points.length === 0
      ? quiet("Nothing fits. Fewer restrictions find more.")
      : wide("Found points", el("table", {}, head(columns), el("tbody", {}, rows))),
    receiptOf(receipt, milliseconds, headers),
    folded("This search as a curl command", copyable(curlOf(base(), request, key() !== ""))),
  ];
};

const receiptOf = (receipt, milliseconds, headers) => {
  const { lanes, total, overlap } = waterfall(milliseconds);
  const requests = receipt ? receipt.requests.total : headers.get("Tarn-Requests");
  const bytes = receipt?.bytes ?? Number(headers.get("Tarn-Bytes") ?? 0);
  return el(
    "section",
    { class: "sheet", "aria-label": "Receipt" },
    el("h2", {}, "Receipt"),
    facts([
      ["Time", msText(total)],
      [
        "Requests to the store",
        count(requests ?? 0),
        receipt &&
          [
            ["get", "GET"],
            ["head", "HEAD"],
            ["list", "LIST"],
          ]
            .map(([kind, name]) => receipt.requests[kind] && `${receipt.requests[kind]} ${name}`)
            .filter(Boolean)
            .join(", ") + (receipt.requests.hedged ? ` · ${receipt.requests.hedged} made twice` : ""),
      ],
      ["Bytes read", bytesText(bytes), receipt && counted(receipt.roundTrips, "round trip")],
      receipt && [
        "Price",
        dollarsText(receipt.dollars.total),
        receipt.dollars.total > 0 &&
          `requests ${dollarsText(receipt.dollars.requests)}, compute ${dollarsText(receipt.dollars.compute)}`,
      ],
      ["Generation", headers.get("Tarn-Generation") ?? "–", `version ${headers.get("Tarn-Version") ?? "–"}`],
      [
        "Coverage",
        percent(Number(headers.get("Tarn-Coverage") ?? 1)),
        receipt?.ranking?.by === "scan" && "ranked by comparing every row",
      ],
    ]),
    el(
      "table",
      { class: "falls" },
      el("caption", {}, overlap ? "Phases overlapped; here they stand one after another." : "Where the time went."),
      el(
        "tbody",
        {},
        lanes.map(({ name, ms, from, share }) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, name, el("br"), el("small", {}, PHASES[name])),
            el(
              "td",
              { class: "lane" },
              svg(
                "svg",
                { viewBox: "0 0 1000 8", preserveAspectRatio: "none", "aria-hidden": "true" },
                svg("rect", { class: "track", width: 1000, height: 8 }),
                svg("rect", {
                  class: name === "rest" ? "fill" : "total",
                  x: Math.min(from * 1000, 997),
                  width: Math.max(share * 1000, 3),
                  height: 8,
                }),
              ),
            ),
            el("td", { class: "n" }, msText(ms)),
          ),
        ),
      ),
    ),
    receipt && receipt.segments.length > 0 && segmentsOf(receipt.segments),
  );
};

const segmentsOf = segments => {
  const columns = [
    ["Shard", segment => segment.shard],
    ["Segment", ({ segment }) => (segment ? el("code", {}, segment) : "the unbuilt tail")],
    ["Rows", segment => count(segment.rows), "n"],
    ["Was", segment => segment.cache],
    ["Plan", segment => planText(segment.plan)],
  ];
  const made = table("How each segment was searched", columns, segments);
  return segments.length > 8 ? folded(`How each of ${counted(segments.length, "segment")} was searched`, made) : made;
};
