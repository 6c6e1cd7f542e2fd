// What an index consists of, and its recall now.

const showStructure = (place, index) => {
  const { description } = index;
  const segments = description.shards.flatMap(({ shard, segments }) => segments.map(segment => ({ shard, ...segment })));
  const measured = el("div");
  const measure = () =>
    fill(measured, "Comparing 20 searches with exact ones…", async () => {
      const { body } = await ask(ROUTES.recall, index.id, {}, JSON.stringify({ k: 10, queries: 20 }));
      announce(`Recall ${percent(body.recall)}`);
      return facts([
        ["Recall at " + body.k, percent(body.recall), counted(body.queries, "query", "queries")],
        ["The worst query's", percent(body.lowest)],
        ["As every day", msText(body.searchMilliseconds)],
        ["Exact", msText(body.exactMilliseconds)],
      ]);
    });
  put(
    place,
    facts([
      ["Watermark", description.watermark, "the version that segments include"],
      ["Head", description.head, "the version of all uploads"],
      ["Shards", count(description.shards.length)],
      ["Splits", count(description.splitsCount)],
    ]),
    el("h2", {}, "Shards"),
    table(
      "By id",
      [
        ["Shard", ({ shard }) => shard],
        ["Points", shard => count(shard.dataPointsCount), "n"],
        ["Splits", shard => count(shard.splitsCount), "n"],
        ["Segments", shard => count(shard.segments.length), "n"],
        ["Bytes", shard => bytesText(shard.segmentBytes), "n"],
      ],
      description.shards,
    ),
    segments.length > 0 && el("h2", {}, "Segments"),
    segments.length > 0 &&
      table(
        "Files that builds have written",
        [
          ["Segment", ({ id }) => el("code", {}, id)],
          ["Shard", ({ shard }) => shard],
          ["Kind", ({ kind }) => kind],
          ["Rows", ({ rows }) => count(rows), "n"],
          ["Of these dead", ({ deleted }) => count(deleted), "n"],
          ["Bytes", ({ bytes }) => bytesText(bytes), "n"],
        ],
        segments,
      ),
    index.splits.length > 0 &&
      description.splits.length > 0 && [
        el("h2", {}, "Splits"),
        table(
          description.splits.length < description.splitsCount
            ? `The first ${description.splits.length} of ${count(description.splitsCount)}`
            : "All of them",
          [
            ...valueColumns(description.splits),
            ["Shard", ({ shard }) => shard],
            ["Points", split => count(split.dataPointsCount), "n"],
            ["Bytes", split => bytesText(split.bytes), "n"],
          ],
          description.splits,
        ),
      ],
    el("h2", {}, "Recall now"),
    quiet(
      "Searches for 20 of the index's own points, as every search does and exactly, and compares. The exact ones read every row.",
    ),
    el("p", {}, button("Measure the recall", measure)),
    measured,
    el("h2", {}, "Definition"),
    copyable(JSON.stringify(description.definition, undefined, 2)),
  );
};
