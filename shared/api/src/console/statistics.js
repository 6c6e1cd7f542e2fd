// Statistics of an index: numbers, a histogram, drift.

const showStatistics = (place, index) => {
  const choose = restriction(index);
  const results = el("div");
  const [tail, tailLabel] = tick("With what no build has taken in", index.description.generation === 0);
  const [exact, exactLabel] = tick("Exact: read every point");
  const since = input({ type: "number", min: 1, step: 1, placeholder: "none" });
  const shards = index.description.shards.map(({ shard }) => shard);
  const shard = select([["", "all"], ...shards.map(shard => [shard, shard])]);
  const run = () =>
    fill(results, "Counting…", async () => {
      const query = { ...choose.read(), shard: shard.value, exact: exact.checked };
      const { body } = await ask(ROUTES.statistics, index.id, { ...query, tail: tail.checked, since: since.value });
      let before;
      // Only to draw it beside: that it is gone, or cannot be asked, is no fault.
      if (body.drift)
        before = await ask(ROUTES.statistics, index.id, { ...query, asOf: since.value }).then(
          ({ body }) => body,
          () => undefined,
        );
      announce(`Statistics of ${counted(body.dataPointsCount, "point")}`);
      return statisticsOf(index, body, before);
    });
  put(
    place,
    el(
      "form",
      { class: "sheet", submit: onSubmit(run) },
      el(
        "div",
        { class: "fields" },
        field(
          "Compare with generation",
          since,
          index.description.generation > 1 ? `the newest is ${index.description.generation}` : undefined,
        ),
        shards.length > 1 && field("Shard", shard),
      ),
      folded("Restrict", el("div", { class: "fields" }, choose.fields)),
      el("div", { class: "row" }, button("Count", undefined, "main"), tailLabel, exactLabel),
    ),
    results,
  );
  run();
};

const statisticsOf = (index, { dataPointsCount, centre, spread, distances, pointsRead, drift }, before) => {
  if (dataPointsCount === 0)
    return quiet("There are no points in question. What no build has taken in counts when the box above is ticked.");
  const comparable =
    before?.distances.from === distances.from &&
    JSON.stringify(before?.distances.reference) === JSON.stringify(distances.reference);
  const short = centre?.slice(0, 8).map(digits).join(", ");
  return [
    facts([
      ["Points", count(dataPointsCount), pointsRead > 0 ? `${count(pointsRead)} read for this` : "as the builds counted them"],
      spread !== undefined && ["Spread", digits(spread), "root of the mean squared distance"],
      ["Farthest", digits(distances.max)],
      distances.offset > 0 && ["Reference to centre", digits(distances.offset)],
    ]),
    histogram(distances, comparable ? before.distances : undefined, drift),
    drift && [
      el("h2", {}, `Drift since generation ${drift.since}`),
      facts([
        ["Points then", count(drift.dataPointsCount)],
        drift.centreShift !== undefined && [
          "Centre moved by",
          digits(drift.centreShift),
          drift.centreShiftInSpreads !== undefined && `${digits(drift.centreShiftInSpreads)} spreads`,
        ],
        ["Distances moved", percent(drift.distancesMoved), "of the points would have to change bins"],
      ]),
    ],
    centre && [
      el("h2", {}, "Centre"),
      el("p", { class: "mono" }, `[${short}${centre.length > 8 ? `, … ${centre.length} coordinates` : ""}]`),
      el("p", {}, el("a", { href: hashOf(index.id, "search", { vector: centre }) }, "Search around the centre")),
    ],
  ];
};

const histogram = (distances, earlier, drift) => {
  const [width, height, left, foot] = [960, 260, 8, 28];
  const bins = histogramOf(distances, earlier);
  const top = Math.max(...bins.flatMap(({ share, earlier = 0 }) => [share, earlier]), 1e-9);
  const step = (width - 2 * left) / bins.length;
  const y = share => 12 + (height - foot - 12) * (1 - share / top);
  const line = bins
    .map(({ earlier = 0 }, at) => `${at ? "L" : "M"}${left + at * step} ${y(earlier)}H${left + (at + 1) * step}`)
    .join("");
  const marks = [...new Set([0, 0.25, 0.5, 0.75, 1].map(part => Math.round(part * bins.length)))];
  const from =
    { centre: "the centre", reference: "a reference near the centre", origin: "the origin" }[distances.from] ?? distances.from;
  const peak = bins.reduce((best, bin) => (bin.share > best.share ? bin : best));
  return el(
    "figure",
    { class: "sheet" },
    svg(
      "svg",
      {
        class: "plot",
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": `Histogram of distances to ${from}: most points, ${percent(peak.share)}, from ${digits(peak.from)} to ${digits(peak.to)}; the farthest at ${digits(distances.max)}`,
      },
      bins.map(({ share, points, from, to }, at) =>
        svg(
          "rect",
          {
            class: "fill",
            x: left + at * step + 0.5,
            y: y(share),
            width: Math.max(step - 1, 1),
            height: height - foot - y(share),
          },
          svg("title", {}, `${digits(from)} to ${digits(to)}: ${counted(points, "point")}`),
        ),
      ),
      bins.some(({ earlier }) => earlier !== undefined) && svg("path", { class: "earlier", d: line }),
      svg("line", { class: "axis", x1: left, x2: width - left, y1: height - foot, y2: height - foot }),
      marks.map(at =>
        svg(
          "text",
          { x: left + at * step, y: height - 9, "text-anchor": at === 0 ? "start" : at === bins.length ? "end" : "middle" },
          digits(Number((at * distances.binWidth).toPrecision(3))),
        ),
      ),
    ),
    el(
      "figcaption",
      {},
      `Share of the points by Euclidean distance to ${from}, in bins of ${digits(distances.binWidth)}; the highest is ${percent(top)}. `,
      earlier && drift && el("span", { class: "swatch" }, `The line is generation ${drift.since}.`),
    ),
  );
};
