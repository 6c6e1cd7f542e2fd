// The form that a search is made of.

const showSearch = (place, index, at) => {
  const results = el("div");
  const choose = restriction(index);
  // A chosen point goes out as it came: a field of one line cannot hold every string.
  let picked;
  const unpick = () => {
    picked = undefined;
  };
  const like = Object.fromEntries(index.permanent.map(key => [key, input({ input: unpick })]));
  const vector = area({ class: "mono", placeholder: index.sparse ? "17:1 4031:0.5" : "0.1, 0.2, …  or a JSON array" });
  const mode = (value, label, checked) => {
    const radio = el("input", { type: "radio", name: "by", value, checked, change: () => switchTo(value) });
    return [radio, el("label", { class: "choice" }, radio, label)];
  };
  const [byPoint, pointLabel] = mode("point", "A stored point: more like this", true);
  const [byVector, vectorLabel] = mode("vector", "A vector");
  const pointFields = el(
    "div",
    { class: "fields" },
    Object.entries(like).map(([key, control]) => field(key, control, index.types[key])),
  );
  const vectorFields = el(
    "div",
    { class: "fields", hidden: true },
    field(
      index.sparse ? "index:value pairs" : `Coordinates${index.dimension ? ` (${index.dimension})` : ""}`,
      vector,
      undefined,
      true,
    ),
  );
  const switchTo = by => {
    byPoint.checked = by === "point";
    byVector.checked = by === "vector";
    pointFields.hidden = by !== "point";
    vectorFields.hidden = by !== "vector";
  };
  const number = properties => input({ type: "number", step: "any", ...properties });
  const k = number({ value: 10, min: 1, max: 10000, step: 1 });
  const score = select([
    ["", `${METRICS[index.algorithm] ?? "the index's own"} (its own)`],
    ...scoresOf(index.algorithm).map(name => [name, name]),
  ]);
  const direction = select([
    ["", "as is usual"],
    ["lower", "less is better"],
    ["higher", "more is better"],
  ]);
  const groupBy = select([["", "no groups"], ...Object.keys(index.types).map(name => [name, name])]);
  const groupLimit = number({ value: 3, min: 1, step: 1 });
  const effort = select([
    ["", "the index's own"],
    ["recall", "aim at a recall"],
    ["exact", "exact: compare every row"],
  ]);
  const targetRecall = number({ value: 0.95, min: 0, max: 1, step: 0.01 });
  const deadlineMs = number({ min: 0, placeholder: "none" });
  const consistency = select([
    ["", "strong: all uploads"],
    ["eventual", "eventual: cheaper"],
  ]);
  const asOf = number({ min: 1, step: 1, placeholder: "the newest" });
  const [explain, explainLabel] = tick("Explain: with a receipt", true);
  const targetField = field("Recall to aim at", targetRecall);
  const limitField = field("Points of a group", groupLimit);
  const dependent = () => {
    targetField.hidden = effort.value !== "recall";
    limitField.hidden = groupBy.value === "";
  };
  effort.addEventListener("change", dependent);
  groupBy.addEventListener("change", dependent);
  dependent();

  const run = () =>
    fill(results, "Searching…", async () => {
      const values = Object.fromEntries(Object.entries(like).map(([key, control]) => [key, control.value]));
      const body = searchOf(
        {
          by: byPoint.checked ? "point" : "vector",
          picked,
          like: values,
          vector: vector.value,
          splits: choose.texts(),
          filter: choose.filter(),
          k: k.value,
          score: score.value,
          direction: direction.value,
          groupBy: groupBy.value,
          groupLimit: groupLimit.value,
          effort: effort.value,
          targetRecall: targetRecall.value,
          deadlineMs: deadlineMs.value,
          consistency: consistency.value,
          asOf: asOf.value,
          explain: explain.checked,
        },
        index,
      );
      const request = requestOf(ROUTES.search, index.id, {}, body);
      const { body: answer, headers } = await send(request);
      return answerOf(index, request, answer, headers, score.value);
    });
  const start = ({ like: point, vector: coordinates }) => {
    if (point) {
      switchTo("point");
      picked = [point].flat();
      for (const [key, control] of Object.entries(like))
        control.value = textOf(picked.find(attribute => attribute?.key === key)?.value);
    } else if (coordinates) {
      switchTo("vector");
      vector.value = JSON.stringify(coordinates);
    }
    if (point || coordinates) run();
  };
  current.again = next => {
    start(next);
    results.scrollIntoView?.({ block: "nearest" });
  };

  put(
    place,
    el(
      "form",
      { class: "sheet", submit: onSubmit(run) },
      el(
        "fieldset",
        {},
        el("legend", {}, "Find what is near to"),
        el("p", {}, pointLabel, vectorLabel),
        pointFields,
        vectorFields,
      ),
      el(
        "div",
        { class: "fields" },
        field("k: how many", k),
        field("Rank by", score),
        field("Group by", groupBy),
        limitField,
        field("Effort", effort),
        targetField,
      ),
      folded(
        "Restrict, and more",
        el(
          "div",
          { class: "fields" },
          choose.fields,
          field("Deadline (ms)", deadlineMs, "the best so far, with its coverage"),
          field("Direction", direction),
          field("Consistency", consistency),
          field("As of generation", asOf),
        ),
      ),
      el("div", { class: "row" }, button("Search", undefined, "main"), explainLabel),
    ),
    results,
  );
  if (at.like || at.vector) {
    start(at);
    return;
  }
  // Something to click on, for who has no point in mind.
  fill(results, "Reading some points…", async () => {
    const { body } = await ask(ROUTES.points, index.id, { limit: 5, consistency: "eventual" });
    if (body.points.length === 0) return quiet("The index has no points yet.");
    return [el("h2", {}, "To begin with"), pointTable(index, "Some points of the index", body.points)];
  });
};
